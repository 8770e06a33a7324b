using Grpc.Core;
using VirtBackup.Core;
using VirtBackup.Protocol.Admin.V1;
using VirtBackup.Protocol.Grpc;

namespace VirtBackup.Cli.Tests.Fixtures;

/// <summary>Answers what is asked of copies: one store is complete, one is away; a machine is as wanted, another is overdue.</summary>
internal sealed class FakeCopies(FakeAdmin admin) : CopyService.CopyServiceBase
{
    /// <summary>Nothing is overdue.</summary>
    public bool IsAsWanted { get; set; }

    private static CopyStore Near => new()
    {
        Name = "near", Location = "/mnt/near", Kind = "folder", CreateTime = FakeRetention.Noon, Open = true, CompleteTime = FakeRetention.Noon, Points = 12, PackBytes = 3UL << 30,
        PointsOnlyThere = 1, PointsKept = 2, JobId = FakeAdmin.JobId,
    };

    private static CopyStore Far => new()
    {
        Name = "far", Location = "s3://backups/far", Kind = "s3", OffSite = true, BytesPerSecondMax = 50 << 20, CreateTime = FakeRetention.Noon, Problem = "The bucket does not answer.", Points = 11, PointsMissing = 1,
    };

    private static CopyPolicy Policy => new()
    {
        Name = "gold", Vms = { new CopyMachine { VmId = FakeAdmin.VmId, VmName = "db7" } }, Copies = 3, Media = 2, OffSite = 1, At = { "far" }, LockDays = 14, LockedAt = "far", WithinMinutes = 1440, RuleSet = "long",
    };

    public static CopyResult Result(bool isDamaged) => new()
    {
        Store = "near", PointsCopied = 2, PointsLocked = 1, BytesCopied = 5 << 20, PointsRefused = isDamaged ? 1u : 0, Problems = { isDamaged ? ["Recovery point x: it is damaged."] : Array.Empty<string>() },
    };

    public override Task<AddCopyStoreResponse> AddCopyStore(AddCopyStoreRequest request, ServerCallContext context) =>
        admin.Answer(request, new AddCopyStoreResponse { Store = new CopyStore { Name = request.Name, Location = request.Location, Kind = "folder" } });

    public override Task<ListCopyStoresResponse> ListCopyStores(ListCopyStoresRequest request, ServerCallContext context) => admin.Answer(request, new ListCopyStoresResponse { Stores = { Far, Near } });

    public override Task<GetCopyStoreResponse> GetCopyStore(GetCopyStoreRequest request, ServerCallContext context) => admin.Answer(request, new GetCopyStoreResponse { Store = Known(request.Name) });

    public override Task<RemoveCopyStoreResponse> RemoveCopyStore(RemoveCopyStoreRequest request, ServerCallContext context)
    {
        _ = Known(request.Name);
        return admin.Answer(request, new RemoveCopyStoreResponse());
    }

    public override Task<StartCopyResponse> StartCopy(StartCopyRequest request, ServerCallContext context)
    {
        _ = Known(request.Store);
        return admin.Answer(request, new StartCopyResponse { Job = admin.Started("copy", new VirtualMachine()) });
    }

    public override Task<SetCopyPolicyResponse> SetCopyPolicy(SetCopyPolicyRequest request, ServerCallContext context) => admin.Answer(request, new SetCopyPolicyResponse { Policy = request.Policy });

    public override Task<ListCopyPoliciesResponse> ListCopyPolicies(ListCopyPoliciesRequest request, ServerCallContext context) =>
        admin.Answer(request, new ListCopyPoliciesResponse { Policies = { Policy, new CopyPolicy { Name = "plain", AllVms = true, Copies = 2, WithinMinutes = 90 } } });

    public override Task<RemoveCopyPolicyResponse> RemoveCopyPolicy(RemoveCopyPolicyRequest request, ServerCallContext context) => admin.Answer(request, new RemoveCopyPolicyResponse());

    public override Task<GetCopyStatusResponse> GetCopyStatus(GetCopyStatusRequest request, ServerCallContext context)
    {
        var response = new GetCopyStatusResponse();
        if (!IsAsWanted)
        {
            response.Machines.Add(new CopyStatus
            {
                Policy = "gold", VmId = FakeAdmin.VmId, VmName = "db7", State = CopyState.Overdue, SinceTime = FakeRetention.Noon, Reasons = { "not at far", "1 of 3 copies" }, PointId = FakeAdmin.PointId,
                PointTime = FakeRetention.Noon, Places = { new CopyPlace { Name = "repository", Kind = "folder" } }, Copies = 1, CopiesWanted = 3, Media = 1, MediaWanted = 2, OffSiteWanted = 1, LockWanted = true,
                Points = 4, PointsOverdue = 2, PointsPending = 1,
            });
        }
        response.Machines.Add(new CopyStatus
        {
            Policy = "plain", VmId = FakeAdmin.VmId, VmName = "web7", State = CopyState.Met, PointId = FakeAdmin.PointId, PointTime = FakeRetention.Noon, Copies = 2, CopiesWanted = 2, Media = 2,
            OffSite = 1, Points = 9, LockedUntilTime = FakeRetention.Noon, LockWanted = true,
            Places = { new CopyPlace { Name = "repository", Kind = "folder" }, new CopyPlace { Name = "far", Kind = "s3", OffSite = true, LockedUntilTime = FakeRetention.Noon } },
        });
        response.MachinesTotal = (uint)response.Machines.Count;
        return admin.Answer(request, response);
    }

    private static CopyStore Known(string name) => name switch
    {
        "near" => Near,
        "far" => Far,
        _ => throw FaultStatus.ToRpc(new FaultException(FaultReason.NotFound, $"There is no copy store called '{name}'.")),
    };
}
