using VirtBackup.Controller;
using VirtBackup.Core;
using VirtBackup.Format.Manifests;
using VirtBackup.Protocol.Store.V1;
using VirtBackup.Protocol.Transport;
using VirtBackup.Repository.Reading;
using VirtBackup.Testing.Stores;

namespace VirtBackup.Proofs.Installation;

/// <summary>
/// The agent's way to the controller, in memory: calls the role as the gRPC services do. While the controller is down,
/// and when it goes down during a call, the call fails as a broken connection does.
/// </summary>
internal sealed class StoreTransport(Site site, Host host, Acknowledged acknowledged, bool acknowledgeEarly) : IStoreTransport
{
    public async ValueTask<FindRecoveryPointsResponse> FindRecoveryPointsAsync(FindRecoveryPointsRequest request, CancellationToken cancellationToken)
    {
        var response = await CallAsync(role => role.Store.FindRecoveryPointsAsync(host.Caller, request, cancellationToken), cancellationToken);
        acknowledged.Points.UnionWith(response.CommittedPointIds.Select(Id16.Parse));
        return response;
    }

    public ValueTask<BeginSessionResponse> BeginSessionAsync(BeginSessionRequest request, CancellationToken cancellationToken) =>
        CallAsync(role => role.Store.BeginSessionAsync(host.Caller, request, cancellationToken), cancellationToken);

    public async ValueTask<PutKeyResponse> PutKeyAsync(PutKeyRequest request, CancellationToken cancellationToken)
    {
        var response = await CallAsync(role => role.Store.PutKeyAsync(host.Caller, request, cancellationToken), cancellationToken);
        acknowledged.Keys.Add(request.KeyObject.ToByteArray());
        return response;
    }

    public ValueTask<ProbeChunksResponse> ProbeChunksAsync(ProbeChunksRequest request, CancellationToken cancellationToken) =>
        CallAsync(role => role.Store.ProbeChunksAsync(host.Caller, request, cancellationToken), cancellationToken);

    public IDuplex<UploadRecordsRequest, UploadRecordsResponse> UploadRecords(CancellationToken cancellationToken)
    {
        var pipe = new UploadPipe(acknowledged, acknowledgeEarly);
        _ = ServeAsync(pipe, cancellationToken);
        return pipe;
    }

    public async ValueTask<CommitRecoveryPointResponse> CommitRecoveryPointAsync(CommitRecoveryPointRequest request, CancellationToken cancellationToken)
    {
        var response = await CallAsync(role => role.Store.CommitRecoveryPointAsync(host.Caller, request, cancellationToken), cancellationToken);
        var bytes = request.Manifest.ToByteArray();
        var point = Manifest.Parse(bytes).Head.Point;
        acknowledged.Commits[point] = bytes;
        acknowledged.Points.Add(point);
        return response;
    }

    public ValueTask<AbandonSessionResponse> AbandonSessionAsync(AbandonSessionRequest request, CancellationToken cancellationToken) =>
        CallAsync(role => role.Store.AbandonSessionAsync(host.Caller, request), cancellationToken);

    public ValueTask<ReadManifestResponse> ReadManifestAsync(ReadManifestRequest request, CancellationToken cancellationToken) =>
        CallAsync(role => role.Store.ReadManifestAsync(host.Caller, request, cancellationToken), cancellationToken);

    public IAsyncEnumerable<ReadOnlyMemory<byte>> ReadMapNodesAsync(ReadMapNodesRequest request, CancellationToken cancellationToken) =>
        ReadAsync(role => role.Store.ReadMapNodesAsync(host.Caller, request, cancellationToken));

    public IAsyncEnumerable<ReadOnlyMemory<byte>> ReadRecordsAsync(ReadRecordsRequest request, CancellationToken cancellationToken) =>
        ReadAsync(role => role.Store.ReadRecordsAsync(host.Caller, request, cancellationToken));

    private static FaultException Unreachable() => new(FaultReason.Unavailable, "The controller cannot be reached.");

    private async ValueTask<T> CallAsync<T>(Func<ControllerRole, ValueTask<T>> call, CancellationToken cancellationToken)
    {
        await Task.Yield();
        cancellationToken.ThrowIfCancellationRequested();
        var (role, power) = site.Connect() ?? throw Unreachable();
        try
        {
            // A call that the power failure left hanging never ends by itself.
            var response = await call(role).AsTask().WaitAsync(power.Off);
            return power.IsOff ? throw Unreachable() : response;
        }
        catch (Exception failure) when (power.IsOff && !cancellationToken.IsCancellationRequested && failure is SimulatedCrashException or OperationCanceledException)
        {
            throw Unreachable();
        }
    }

    private async IAsyncEnumerable<ReadOnlyMemory<byte>> ReadAsync(Func<ControllerRole, IAsyncEnumerable<PooledSlice>> read)
    {
        await Task.Yield();
        var (role, power) = site.Connect() ?? throw Unreachable();
        await foreach (var slice in read(role))
        {
            using (slice)
            {
                yield return power.IsOff ? throw Unreachable() : slice.Memory;
            }
        }
    }

    private async Task ServeAsync(UploadPipe pipe, CancellationToken cancellationToken)
    {
        await Task.Yield();
        if (site.Connect() is not (var role, var power))
        {
            pipe.End(Unreachable());
            return;
        }
        await using var broken = power.Off.Register(() => pipe.End(Unreachable()));
        try
        {
            await role.Store.UploadRecordsAsync(host.Caller, pipe, cancellationToken);
            pipe.End(null);
        }
        catch (Exception failure) when (failure is SimulatedCrashException || power.IsOff)
        {
            pipe.End(Unreachable());
        }
        catch (OperationCanceledException)
        {
            pipe.End(new FaultException(FaultReason.Unavailable, "The stream was broken."));
        }
        catch (Exception failure)
        {
            pipe.End(failure);
        }
    }
}
