using VirtBackup.Agent.Flow;
using VirtBackup.Core;
using VirtBackup.Format.Maps;
using VirtBackup.Hypervisors;

namespace VirtBackup.Agent.Restore;

/// <summary>What the measurement of a restore's path reached.</summary>
/// <param name="Bytes">Of the chunks; 0: none was made.</param>
/// <param name="WireBytes">Of their records.</param>
/// <param name="Seconds">From the first request until they were on stable storage.</param>
internal readonly record struct SampledRate(long Bytes, long WireBytes, double Seconds);

/// <summary>
/// Measures the path of a restore just before it: fetches some chunks of the point, opens them as the restore does, and writes
/// them to a nameless file on the target's file system.
/// </summary>
internal sealed class PathSample(RestoreSource source, IRestoreTarget target)
{
    /// <summary>Leaves of each disk, and chunks of each leaf: a few MiB, spread over the disk.</summary>
    public const int LeavesMax = 4;

    private const int ChunksOfLeafMax = 8;
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(3);

    /// <returns>What was reached within 3 seconds. A measurement that fails is none: the restore itself says what is wrong.</returns>
    public async Task<SampledRate> MeasureAsync(IReadOnlyList<(Id16 Stream, RestoreDisk Disk, MapShape Shape, LeafSample Leaves)> disks, CancellationToken cancellationToken)
    {
        using var deadline = new CancellationTokenSource(Limit, source.Time);
        using var linked = CancellationTokenSource.CreateLinkedTokenSource(deadline.Token, cancellationToken);
        var reached = new RunProgress();
        var begun = source.Time.GetTimestamp();
        try
        {
            await using var file = await target.BeginSampleAsync(linked.Token);
            begun = source.Time.GetTimestamp();
            var written = new SampleDisk(file);
            foreach (var (stream, disk, shape, leaves) in disks)
            {
                written.Disk = disk;
                var plan = leaves.Leaves.Select(leaf => new PlannedLeaf(leaf.Index * shape.SpanBytes, leaf.Leaf, Wanted: null));
                await new DiskRestore(source, stream, _ => plan.ToAsyncEnumerable(), written, shape, reached, ChunksOfLeafMax).RunAsync(linked.Token);
            }
            await file.FlushAsync(linked.Token);
        }
        catch (OperationCanceledException) when (deadline.IsCancellationRequested && !cancellationToken.IsCancellationRequested)
        {
            // A slow path: what it reached until now tells as much, and if that is nothing, it is no more than a chunk.
            return Reached(Math.Max(reached.BytesDone, disks.Count > 0 ? disks[0].Shape.ChunkBytesMax : 0));
        }
        catch (FaultException)
        {
            return default;
        }
        return Reached(reached.BytesDone);

        SampledRate Reached(long bytes) => new(bytes, reached.BytesSent, source.Time.GetElapsedTime(begun).TotalSeconds);
    }

    /// <summary>Writes chunks behind each other, whatever place of the disk they have.</summary>
    private sealed class SampleDisk(ITargetSample file) : IRestoredDisk
    {
        private long _end;

        public RestoreDisk Disk { get; set; } = null!;

        public ValueTask WriteAsync(long offset, ReadOnlyMemory<byte> source, CancellationToken cancellationToken) =>
            file.WriteAsync(Interlocked.Add(ref _end, source.Length) - source.Length, source, cancellationToken);
    }
}
