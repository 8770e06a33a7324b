using VirtBackup.Catalog;
using VirtBackup.Catalog.Replication;
using VirtBackup.Controller.Admin;
using VirtBackup.Controller.Copies;
using VirtBackup.Controller.Enrollment;
using VirtBackup.Core;
using VirtBackup.Identity;
using VirtBackup.Protocol.Admin.V1;
using VirtBackup.Sealing;

namespace VirtBackup.Controller.Replication;

/// <summary>What operators' tools ask of peers: who they are, what they may read, how they are reached. Safe for concurrent use.</summary>
public sealed class PeerEndpoint(
    CatalogDatabase catalog, References references, PeerEnrollment enrollment, PeerLinks links, OriginUnlocking unlocking, Keyholder keyholder, TimeProvider time)
{
    public async ValueTask<CreatePeerTokenResponse> CreatePeerTokenAsync(CreatePeerTokenRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        await RequireNameAsync(request.Name, cancellationToken);
        var (text, expires) = await enrollment.CreateTokenAsync(request.Name, request.LifetimeMinutes, cancellationToken);
        return new CreatePeerTokenResponse { JoinToken = text, ExpireTime = WireText.ToTimestamp(expires.ToUnixTimeMilliseconds()) };
    }

    public async ValueTask<AddPeerResponse> AddPeerAsync(AddPeerRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        await RequireNameAsync(request.Name, cancellationToken);
        var dialer = links.Dialer ?? throw new FaultException(FaultReason.Unsupported, "This controller calls no others.");
        var admission = await dialer.JoinAsync(
            request.Name, WireText.Bounded(request.Controller, 255, "address"), WireText.Bounded(request.JoinToken, JoinToken.TextLengthMax, "join token"), cancellationToken);
        await catalog.Peers.SetControllerAsync(request.Name, admission.Controller, admission.Repository, time.NowMs(), CancellationToken.None);
        var row = request.Offer
            ? await catalog.Peers.SetOfferAsync(request.Name, true, CancellationToken.None)
            : await catalog.Peers.RequireAsync(request.Name, CancellationToken.None);
        return new AddPeerResponse { Peer = await ToMessageAsync(row, cancellationToken) };
    }

    public async ValueTask<ListPeersResponse> ListPeersAsync(CancellationToken cancellationToken)
    {
        var response = new ListPeersResponse();
        foreach (var row in await catalog.Peers.ListAsync(cancellationToken))
        {
            response.Peers.Add(await ToMessageAsync(row, cancellationToken));
        }
        return response;
    }

    public async ValueTask<GetPeerResponse> GetPeerAsync(GetPeerRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        return new GetPeerResponse { Peer = await ToMessageAsync(await catalog.Peers.RequireAsync(request.Name, cancellationToken), cancellationToken) };
    }

    public async ValueTask<AllowPeerResponse> AllowPeerAsync(AllowPeerRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        if (request.Vms.Count > PeerRecords.MachinesMax || (request.All && request.Vms.Count > 0))
        {
            throw new FaultException(FaultReason.InvalidArgument, $"Allow all machines, or at most {PeerRecords.MachinesMax} by name.");
        }
        var machines = new List<Id16>();
        foreach (var machine in request.Vms)
        {
            machines.Add(await references.FindMachineIdAsync(machine, cancellationToken));
        }
        return new AllowPeerResponse { Peer = await ToMessageAsync(await catalog.Peers.AllowAsync(request.Name, request.All, machines, cancellationToken), cancellationToken) };
    }

    public async ValueTask<OfferToPeerResponse> OfferToPeerAsync(OfferToPeerRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        var row = await catalog.Peers.RequireAsync(request.Name, cancellationToken);
        if (request.Offer && row.Controller.Length == 0)
        {
            throw new FaultException(FaultReason.FailedPrecondition, $"This controller cannot call the peer '{request.Name}': add it with a join token that is made there (virtbackup peer add).");
        }
        return new OfferToPeerResponse { Peer = await ToMessageAsync(await catalog.Peers.SetOfferAsync(request.Name, request.Offer, cancellationToken), cancellationToken) };
    }

    public async ValueTask<RevokePeerResponse> RevokePeerAsync(RevokePeerRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        return new RevokePeerResponse { Peer = await ToMessageAsync(await enrollment.RevokeAsync(request.Name, cancellationToken), cancellationToken) };
    }

    public async ValueTask<RemovePeerResponse> RemovePeerAsync(RemovePeerRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        _ = await enrollment.RemoveAsync(request.Name, cancellationToken);
        links.Dialer?.Remove(request.Name);
        return new RemovePeerResponse();
    }

    public async ValueTask<UnlockPeerResponse> UnlockPeerAsync(UnlockPeerRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        if (request.RecoveryKit.Length > RecoveryKitText.BytesMax)
        {
            throw new FaultException(FaultReason.InvalidArgument, $"A recovery kit has at most {RecoveryKitText.BytesMax} bytes.");
        }
        var expected = request.Name.Length == 0 ? Id16.Empty : (await catalog.Peers.RequireAsync(request.Name, cancellationToken)).RepositoryId;
        var (origin, points) = await unlocking.UnlockAsync(request.RecoveryKit.Memory, expected, cancellationToken);
        return new UnlockPeerResponse { RepositoryId = origin.ToString(), RecoveryPoints = (ulong)points };
    }

    /// <summary>Policies name the places of copies: no two may be called the same.</summary>
    private async ValueTask RequireNameAsync(string name, CancellationToken cancellationToken)
    {
        PeerKeyFolders.RequireName(name);
        if (name == CopyNames.Repository || (await catalog.Copies.ListStoresAsync(cancellationToken)).Exists(store => store.Name == name))
        {
            throw new FaultException(FaultReason.AlreadyExists, $"'{name}' is the name of a place of copies here, and policies name both: choose another name.");
        }
    }

    private async ValueTask<Peer> ToMessageAsync(PeerRow row, CancellationToken cancellationToken)
    {
        var peer = new Peer
        {
            Name = row.Name,
            RepositoryId = WireText.ToText(row.RepositoryId),
            Version = row.Version,
            CreateTime = WireText.ToTimestamp(row.CreatedMs),
            MayCall = !row.TlsKeyId.IsEmpty && row.RevokedMs is null,
            Revoked = row.RevokedMs is not null,
            ItsCertificateExpireTime = row.TlsKeyId.IsEmpty ? null : WireText.ToTimestamp(row.CertificateExpiresMs),
            Controller = row.Controller,
            OurCertificateExpireTime = links.Dialer?.FindExpiry(row.Name) is { } expiry ? WireText.ToTimestamp(expiry.ToUnixTimeMilliseconds()) : null,
            Offer = row.Offer,
            AllowAll = row.AllowAll,
            Connected = links.IsConnected(row.Name),
            LastSeenTime = row.LastSeenMs == 0 ? null : WireText.ToTimestamp(row.LastSeenMs),
            Problem = links.FindProblem(row.Name),
            Unlocked = !row.RepositoryId.IsEmpty && keyholder.Has(row.RepositoryId),
        };
        foreach (var machine in await catalog.Peers.ListAllowedAsync(row.Name, cancellationToken))
        {
            peer.Allowed.Add(new PeerMachine { VmId = machine.ToString(), VmName = await references.NameMachineAsync(machine, cancellationToken) });
        }
        return peer;
    }
}
