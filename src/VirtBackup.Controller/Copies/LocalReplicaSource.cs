using System.Collections.Concurrent;
using System.Runtime.CompilerServices;
using VirtBackup.Controller.Replication.Streams;
using VirtBackup.Core;
using VirtBackup.Repository;
using VirtBackup.Repository.Reading;
using VirtBackup.Repository.Replication;

namespace VirtBackup.Controller.Copies;

/// <summary>A repository that is open in this process, to be copied from. Safe for concurrent use.</summary>
/// <param name="pace">Slows down what is read.</param>
internal sealed class LocalReplicaSource(BackupRepository repository, string name, IPace pace) : IReplicaSource, IDisposable
{
    private readonly ConcurrentDictionary<Id16, OpenedPoint> _open = new();

    public string Name => name;

    public async ValueTask<ReplicaPoint> ReadPointAsync(Id16 point, CancellationToken cancellationToken)
    {
        var opened = new OpenedPoint(repository.HoldPoint(point));
        try
        {
            opened.Nodes = await repository.Serving.OpenAsync(point, cancellationToken);
            var read = await repository.Serving.ReadPointAsync(point, cancellationToken);
            Check.That(_open.TryAdd(point, opened));
            return read;
        }
        catch
        {
            opened.Dispose();
            throw;
        }
    }

    public ValueTask ReleaseAsync(Id16 point, CancellationToken cancellationToken)
    {
        if (_open.TryRemove(point, out var opened))
        {
            opened.Dispose();
        }
        return ValueTask.CompletedTask;
    }

    public async IAsyncEnumerable<ReadOnlyMemory<byte>> ReadNodesAsync(Id16 point, IReadOnlyList<Id32> ids, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        var opened = _open[point];
        // One reader knows which nodes it has served: calls come after one another.
        using var reading = await opened.Reading.CloseAsync(cancellationToken);
        await foreach (var memory in PassAsync(opened.Nodes!.ReadNodesAsync(ids, cancellationToken), cancellationToken))
        {
            yield return memory;
        }
    }

    public async IAsyncEnumerable<ReadOnlyMemory<byte>> ReadRecordsAsync(
        Id16 point, Id16 stream, IReadOnlyList<ByteRange> ranges, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        var opened = _open[point];
        if (!opened.Records.TryTake(out var reader))
        {
            reader = opened.Nodes!.OpenAnother();
        }
        await foreach (var memory in PassAsync(reader.ReadRecordsAsync(stream, ranges, cancellationToken), cancellationToken))
        {
            yield return memory;
        }
        opened.Records.Add(reader);
    }

    public void Dispose()
    {
        foreach (var opened in _open.Values)
        {
            opened.Dispose();
        }
        _open.Clear();
    }

    private async IAsyncEnumerable<ReadOnlyMemory<byte>> PassAsync(IAsyncEnumerable<PooledSlice> slices, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        await foreach (var slice in slices.WithCancellation(cancellationToken))
        {
            using (slice)
            {
                await pace.SpendAsync(slice.Memory.Length, cancellationToken);
                yield return slice.Memory;
            }
        }
    }

    /// <summary>A point that is held. Readers of records are used again: each has a cache of map nodes.</summary>
    private sealed class OpenedPoint(IDisposable hold) : IDisposable
    {
        public RecoveryPointReader? Nodes { get; set; }

        public Gate Reading { get; } = new();

        public ConcurrentBag<RecoveryPointReader> Records { get; } = [];

        public void Dispose()
        {
            hold.Dispose();
            Reading.Dispose();
        }
    }
}
