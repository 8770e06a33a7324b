using System.Runtime.CompilerServices;
using VirtBackup.Controller;
using VirtBackup.Core;
using VirtBackup.Format.Manifests;
using VirtBackup.Proofs.Simulation;
using VirtBackup.Protocol.Store.V1;
using VirtBackup.Protocol.Transport;
using VirtBackup.Repository.Reading;
using VirtBackup.Testing.Stores;

namespace VirtBackup.Proofs.Installation;

/// <summary>
/// The agent's way to the controller, in memory: calls the role as the gRPC services do. While the controller is down,
/// when it goes down during a call, and when the cable loses a message, the call fails as a broken connection does.
/// </summary>
internal sealed class StoreTransport(Site site, Host host, Cable cable, Acknowledged acknowledged, bool acknowledgeEarly) : IStoreTransport
{
    public async ValueTask<FindRecoveryPointsResponse> FindRecoveryPointsAsync(FindRecoveryPointsRequest request, CancellationToken cancellationToken)
    {
        var response = await CallAsync("settle", role => role.Store.FindRecoveryPointsAsync(host.Caller, request, cancellationToken), cancellationToken);
        acknowledged.Points.UnionWith(response.CommittedPointIds.Select(Id16.Parse));
        return response;
    }

    public async ValueTask<BeginSessionResponse> BeginSessionAsync(BeginSessionRequest request, CancellationToken cancellationToken)
    {
        var life = site.Connect()?.Power;
        var response = await CallAsync("session", role => role.Store.BeginSessionAsync(host.Caller, request, cancellationToken), cancellationToken);
        if (site.Connect()?.Power is { } now && ReferenceEquals(life, now))
        {
            acknowledged.Opened(response.SessionId, request.JobId, now);
        }
        else
        {
            acknowledged.Sessions++;
        }
        return response;
    }

    public async ValueTask<PutKeyResponse> PutKeyAsync(PutKeyRequest request, CancellationToken cancellationToken)
    {
        var response = await CallAsync("keys", role => role.Store.PutKeyAsync(host.Caller, request, cancellationToken), cancellationToken);
        acknowledged.Keys.Add(request.KeyObject.ToByteArray());
        return response;
    }

    public async ValueTask<ProbeChunksResponse> ProbeChunksAsync(ProbeChunksRequest request, CancellationToken cancellationToken)
    {
        var response = await CallAsync("probe", role => role.Store.ProbeChunksAsync(host.Caller, request, cancellationToken), cancellationToken);
        await host.Probed();
        return response;
    }

    public IDuplex<UploadRecordsRequest, UploadRecordsResponse> UploadRecords(CancellationToken cancellationToken)
    {
        var pipe = new UploadPipe(acknowledged, cable, acknowledgeEarly);
        _ = ServeAsync(pipe, cancellationToken);
        return pipe;
    }

    public async ValueTask<CommitRecoveryPointResponse> CommitRecoveryPointAsync(CommitRecoveryPointRequest request, CancellationToken cancellationToken)
    {
        acknowledged.MayBeOver(request.SessionId);
        var response = await CallAsync("commit", role => role.Store.CommitRecoveryPointAsync(host.Caller, request, cancellationToken), cancellationToken);
        var bytes = request.Manifest.ToByteArray();
        var point = Manifest.Parse(bytes).Head.Point;
        acknowledged.Commits[point] = bytes;
        acknowledged.Points.Add(point);
        return response;
    }

    public ValueTask<AbandonSessionResponse> AbandonSessionAsync(AbandonSessionRequest request, CancellationToken cancellationToken)
    {
        acknowledged.MayBeOver(request.SessionId);
        return CallAsync("session", role => role.Store.AbandonSessionAsync(host.Caller, request), cancellationToken);
    }

    public ValueTask<ReadManifestResponse> ReadManifestAsync(ReadManifestRequest request, CancellationToken cancellationToken) =>
        CallAsync("read", role => role.Store.ReadManifestAsync(host.Caller, request, cancellationToken), cancellationToken);

    public IAsyncEnumerable<ReadOnlyMemory<byte>> ReadMapNodesAsync(ReadMapNodesRequest request, CancellationToken cancellationToken) =>
        ReadAsync(role => role.Store.ReadMapNodesAsync(host.Caller, request, cancellationToken), cancellationToken);

    public IAsyncEnumerable<ReadOnlyMemory<byte>> ReadRecordsAsync(ReadRecordsRequest request, CancellationToken cancellationToken) =>
        ReadAsync(role => role.Store.ReadRecordsAsync(host.Caller, request, cancellationToken), cancellationToken);

    private async ValueTask<T> CallAsync<T>(string stage, Func<ControllerRole, ValueTask<T>> call, CancellationToken cancellationToken)
    {
        await Task.Yield();
        cancellationToken.ThrowIfCancellationRequested();
        await cable.PassAsync(cancellationToken);
        var (role, power) = site.Connect() ?? throw Cable.Unreachable();
        Stage.Enter(stage);
        try
        {
            // A call that the power failure left hanging never ends by itself.
            var response = await call(role).AsTask().WaitAsync(power.Off);
            if (power.IsOff)
            {
                throw Cable.Unreachable();
            }
            await cable.PassAsync(cancellationToken);
            return response;
        }
        catch (Exception failure) when (power.IsOff && !cancellationToken.IsCancellationRequested && failure is SimulatedCrashException or OperationCanceledException)
        {
            throw Cable.Unreachable();
        }
    }

    private async IAsyncEnumerable<ReadOnlyMemory<byte>> ReadAsync(
        Func<ControllerRole, IAsyncEnumerable<PooledSlice>> read, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        await Task.Yield();
        await cable.PassAsync(cancellationToken);
        var (role, power) = site.Connect() ?? throw Cable.Unreachable();
        Stage.Enter("read");
        await using var slices = read(role).GetAsyncEnumerator(cancellationToken);
        while (await MoveAsync(slices, power, cancellationToken))
        {
            using var slice = slices.Current;
            if (power.IsOff || cable.Breaks())
            {
                throw Cable.Unreachable();
            }
            yield return slice.Memory;
        }
    }

    private static async ValueTask<bool> MoveAsync(IAsyncEnumerator<PooledSlice> slices, Power power, CancellationToken cancellationToken)
    {
        try
        {
            return await slices.MoveNextAsync();
        }
        catch (Exception failure) when (power.IsOff && !cancellationToken.IsCancellationRequested && failure is SimulatedCrashException or OperationCanceledException)
        {
            throw Cable.Unreachable();
        }
    }

    private async Task ServeAsync(UploadPipe pipe, CancellationToken cancellationToken)
    {
        await Task.Yield();
        if (site.Connect() is not (var role, var power))
        {
            pipe.End(Cable.Unreachable());
            return;
        }
        Stage.Enter("upload");
        await using var broken = power.Off.Register(() => pipe.End(Cable.Unreachable()));
        await using var cut = cable.Dead.Register(() => pipe.End(Cable.Unreachable()));
        try
        {
            await role.Store.UploadRecordsAsync(host.Caller, pipe, cancellationToken);
            pipe.End(null);
        }
        catch (Exception failure) when (failure is SimulatedCrashException || power.IsOff)
        {
            pipe.End(Cable.Unreachable());
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
