using Google.Protobuf.WellKnownTypes;
using Grpc.Core;
using VirtBackup.Core;
using VirtBackup.Protocol.Admin.V1;
using VirtBackup.Protocol.Grpc;

namespace VirtBackup.Cli.Tests.Fixtures;

/// <summary>This site and the site east, which copy each other.</summary>
internal sealed class FakeReplication(FakeAdmin admin) : ReplicationAdminService.ReplicationAdminServiceBase
{
    public const string Repository = "e0e0e0e0e0e0000000000000000000e1";

    private static readonly Timestamp Later = Timestamp.FromDateTimeOffset(new DateTimeOffset(2031, 6, 3, 12, 0, 0, TimeSpan.Zero));

    /// <summary>Why the other controller did not admit this one; null: it does.</summary>
    public FaultException? Refusal { get; set; }

    private static Peer East => new()
    {
        Name = "east", RepositoryId = Repository, Version = "1.2.3", CreateTime = FakeRetention.Noon, MayCall = true, ItsCertificateExpireTime = Later, Controller = "east.example:7443",
        OurCertificateExpireTime = Later, Connected = true, LastSeenTime = FakeRetention.Noon, Allowed = { new PeerMachine { VmId = FakeAdmin.VmId, VmName = "web1" } },
    };

    private static Peer North => new() { Name = "north", CreateTime = FakeRetention.Noon, Controller = "north.example:7443", Offer = true, AllowAll = true, Problem = "Nobody answers at north.example:7443." };

    private static ReplicationRule Rule => new()
    {
        Peer = "east", Vms = { "db7" }, EveryMinutes = 720, Streams = 8, BytesPerSecondMax = 50 << 20, RuleSet = "gold", LockDays = 30,
        Windows = { new RateWindow { StartMinute = 480, EndMinute = 1080, Days = { 1, 2 }, BytesPerSecondMax = 20 << 20 }, new RateWindow { StartMinute = 1320, EndMinute = 360 } },
    };

    /// <param name="isPartial">One point could not be had.</param>
    public static ReplicationResult Result(bool isPartial) => new()
    {
        Peer = "east", PointsReceived = 1, PointsPresent = 6, PointsRefused = isPartial ? 1UL : 0, NodesReceived = 12, ChunksReceived = 300, BytesReceived = 18 << 20,
        Received = { new ReplicatedPoint { PointId = FakeAdmin.PointId, VmName = "db7", CreateTime = FakeRetention.Noon, BytesReceived = 18 << 20 } },
        Problems = { isPartial ? ["db7 of 11:00: its signature is wrong."] : Array.Empty<string>() },
    };

    public override Task<CreatePeerTokenResponse> CreatePeerToken(CreatePeerTokenRequest request, ServerCallContext context) =>
        admin.Answer(request, new CreatePeerTokenResponse { JoinToken = "vbjoin1.TOKEN", ExpireTime = FakeRetention.Noon });

    public override Task<AddPeerResponse> AddPeer(AddPeerRequest request, ServerCallContext context) =>
        Refusal is { } refusal ? throw FaultStatus.ToRpc(refusal) : admin.Answer(request, new AddPeerResponse { Peer = East });

    public override Task<ListPeersResponse> ListPeers(ListPeersRequest request, ServerCallContext context) => admin.Answer(request, new ListPeersResponse { Peers = { East, North } });

    public override Task<GetPeerResponse> GetPeer(GetPeerRequest request, ServerCallContext context) => admin.Answer(request, new GetPeerResponse { Peer = Known(request.Name) });

    public override Task<AllowPeerResponse> AllowPeer(AllowPeerRequest request, ServerCallContext context)
    {
        var peer = Known(request.Name);
        peer.AllowAll = request.All;
        peer.Allowed.Clear();
        peer.Allowed.Add(request.Vms.Select(static vm => new PeerMachine { VmId = FakeAdmin.VmId, VmName = vm }));
        return admin.Answer(request, new AllowPeerResponse { Peer = peer });
    }

    public override Task<OfferToPeerResponse> OfferToPeer(OfferToPeerRequest request, ServerCallContext context)
    {
        var peer = Known(request.Name);
        peer.Offer = request.Offer;
        return admin.Answer(request, new OfferToPeerResponse { Peer = peer });
    }

    public override Task<RevokePeerResponse> RevokePeer(RevokePeerRequest request, ServerCallContext context)
    {
        var peer = Known(request.Name);
        peer.Revoked = true;
        return admin.Answer(request, new RevokePeerResponse { Peer = peer });
    }

    public override Task<RemovePeerResponse> RemovePeer(RemovePeerRequest request, ServerCallContext context)
    {
        _ = Known(request.Name);
        return admin.Answer(request, new RemovePeerResponse());
    }

    public override Task<UnlockPeerResponse> UnlockPeer(UnlockPeerRequest request, ServerCallContext context) =>
        admin.Answer(request, new UnlockPeerResponse { RepositoryId = Repository, RecoveryPoints = 7 });

    public override Task<SetReplicationRuleResponse> SetReplicationRule(SetReplicationRuleRequest request, ServerCallContext context)
    {
        _ = Known(request.Rule.Peer);
        return admin.Answer(request, new SetReplicationRuleResponse { Rule = request.Rule });
    }

    public override Task<ListReplicationRulesResponse> ListReplicationRules(ListReplicationRulesRequest request, ServerCallContext context) =>
        admin.Answer(request, new ListReplicationRulesResponse { Rules = { Rule, new ReplicationRule { Peer = "north", Streams = 4, Paused = true } } });

    public override Task<RemoveReplicationRuleResponse> RemoveReplicationRule(RemoveReplicationRuleRequest request, ServerCallContext context)
    {
        _ = Known(request.Peer);
        return admin.Answer(request, new RemoveReplicationRuleResponse());
    }

    public override Task<StartReplicationResponse> StartReplication(StartReplicationRequest request, ServerCallContext context)
    {
        _ = Known(request.Peer);
        return admin.Answer(request, new StartReplicationResponse { Job = admin.Started("replication", new VirtualMachine()) });
    }

    public override Task<GetReplicationStatusResponse> GetReplicationStatus(GetReplicationStatusRequest request, ServerCallContext context) =>
        admin.Answer(request, new GetReplicationStatusResponse
        {
            Rules =
            {
                new ReplicationStatus
                {
                    Rule = Rule, Running = true, JobId = FakeAdmin.JobId, LastSuccessTime = FakeRetention.Noon, BytesPerSecond = 12 << 20, MachinesTotal = 3,
                    Machines =
                    {
                        new ReplicatedMachine { VmId = FakeAdmin.VmId, VmName = "db7", NewestSourceTime = FakeRetention.Noon, PointsMissing = 2, LagMs = 5_400_000, ListTime = FakeRetention.Noon },
                        new ReplicatedMachine { VmId = FakeAdmin.VmId, VmName = "web7", NewestSourceTime = FakeRetention.Noon, NewestHereTime = FakeRetention.Noon, ListTime = FakeRetention.Noon },
                    },
                },
            },
        });

    private static Peer Known(string name) => name switch
    {
        "east" => East,
        "north" => North,
        _ => throw FaultStatus.ToRpc(new FaultException(FaultReason.NotFound, $"There is no peer called '{name}'.")),
    };
}
