using System.Runtime.CompilerServices;
using VirtBackup.Core;
using VirtBackup.Proofs.Simulation;
using VirtBackup.Repository;
using VirtBackup.Repository.Reading;
using VirtBackup.Repository.Replication;
using VirtBackup.Testing.Stores;

namespace VirtBackup.Proofs.Peers;

/// <summary>
/// A repository as a source, over one connection: answers come in the order of calls, in small slices, and all of them end when the
/// connection is cut or the power fails there.
/// </summary>
/// <param name="repository">Whose points are pulled.</param>
/// <param name="power">Of its machine.</param>
/// <param name="slicesLeft">After so many slices the connection is cut; null: never.</param>
internal sealed class PeerSource(BackupRepository repository, Power power, int? slicesLeft) : IReplicaSource
{
    private const int SliceBytes = 16 << 10;

    private readonly Dictionary<Id16, (IDisposable Hold, RecoveryPointReader Reader)> _points = [];
    private Task _before = Task.CompletedTask;

    public string Name => "the other site";

    public bool IsCut => slicesLeft < 0;

    public ValueTask<ReplicaPoint> ReadPointAsync(Id16 point, CancellationToken cancellationToken) => OverTheWireAsync(async () =>
    {
        var replica = await repository.Serving.ReadPointAsync(point, cancellationToken);
        _points.Add(point, (repository.HoldPoint(point), await repository.Serving.OpenAsync(point, cancellationToken)));
        return replica;
    });

    public ValueTask ReleaseAsync(Id16 point, CancellationToken cancellationToken)
    {
        if (_points.Remove(point, out var held))
        {
            held.Hold.Dispose();
        }
        return ValueTask.CompletedTask;
    }

    public IAsyncEnumerable<ReadOnlyMemory<byte>> ReadNodesAsync(Id16 point, IReadOnlyList<Id32> ids, CancellationToken cancellationToken) =>
        AnswerAsync(() => _points[point].Reader.ReadNodesAsync(ids, cancellationToken), cancellationToken);

    public IAsyncEnumerable<ReadOnlyMemory<byte>> ReadRecordsAsync(Id16 point, Id16 stream, IReadOnlyList<ByteRange> ranges, CancellationToken cancellationToken) =>
        AnswerAsync(() => _points[point].Reader.ReadRecordsAsync(stream, ranges, cancellationToken), cancellationToken);

    private async IAsyncEnumerable<ReadOnlyMemory<byte>> AnswerAsync(
        Func<IAsyncEnumerable<PooledSlice>> read, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        var mine = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        var before = _before;
        _before = mine.Task;
        try
        {
            await before.WaitAsync(cancellationToken);
            await using var slices = read().GetAsyncEnumerator(cancellationToken);
            while (await OverTheWireAsync(async () => await slices.MoveNextAsync()))
            {
                using var slice = slices.Current;
                for (var at = 0; at < slice.Memory.Length; at += SliceBytes)
                {
                    yield return await OverTheWireAsync(() => ValueTask.FromResult(slice.Memory.Slice(at, Math.Min(SliceBytes, slice.Memory.Length - at))));
                }
            }
        }
        finally
        {
            mine.SetResult();
        }
    }

    /// <summary>Takes a while, and fails when nobody answers any more.</summary>
    private async ValueTask<T> OverTheWireAsync<T>(Func<ValueTask<T>> answer)
    {
        await Task.Yield();
        if (--slicesLeft < 0 || power.IsOff)
        {
            throw new FaultException(FaultReason.Unavailable, "The connection is gone.");
        }
        try
        {
            return await answer();
        }
        catch (SimulatedCrashException crash)
        {
            throw new FaultException(FaultReason.Unavailable, "The connection is gone.", crash);
        }
    }
}
