using VirtBackup.Agent.Flow;
using VirtBackup.Format.Manifests;

namespace VirtBackup.Agent.Auditing;

/// <summary>
/// The audit of one run, before it reads what has changed: due spans of all disks in the order of their rotations, a few at
/// once, until all are done or the time is over. A miss ends nothing: how much is read, and so what is found with which
/// probability, must not depend on what was found.
/// </summary>
internal sealed class AuditRun(AuditPlan plan, IReadOnlyList<DiskAudit> disks, TimeProvider time)
{
    private const int Batch = 64;
    private const int SpansInFlight = 4;

    private readonly long _started = time.GetTimestamp();
    private readonly int _bufferBytes = disks.Max(static disk => disk.Plan.Geometry.Shape.ChunkBytesMax);
    private bool _isCut;

    private bool IsLate => time.GetElapsedTime(_started) >= plan.Options.TimeMax;

    /// <summary>Why disks of the base were not audited.</summary>
    public string? Omitted { get; init; }

    public async Task RunAsync(CancellationToken cancellationToken)
    {
        foreach (var disk in disks)
        {
            await disk.SurveyAsync(cancellationToken);
        }
        var buffers = new ChunkBuffers(SpansInFlight, _bufferBytes);
        while (Next() is { Count: > 0 } batch)
        {
            await AuditAsync(batch, buffers, cancellationToken);
        }
    }

    /// <summary>What it did, for the manifest.</summary>
    public AuditStatistics Describe()
    {
        var slowest = disks.MaxBy(RunsLeftOf);
        return new AuditStatistics
        {
            UnchangedBlocks = disks.Sum(static disk => disk.UnchangedBlocks),
            AuditedBlocks = disks.Sum(static disk => disk.AuditedBlocks),
            AuditedBytes = disks.Sum(static disk => disk.AuditedBytes),
            Misses = disks.Sum(static disk => disk.Misses),
            Miss = disks.Select(static disk => disk.Miss).FirstOrDefault(static miss => miss is not null),
            Runs = plan.Options.Runs,
            RunsTaken = slowest is null ? 0 : slowest.Plan.Rotation.Runs + 1,
            RunsLeft = slowest is null ? 0 : RunsLeftOf(slowest),
            RotatedBytes = disks.Sum(static disk => Math.Min(disk.Plan.Base.LengthBytes, (disk.Plan.Rotation.Position + disk.Taken) * disk.Plan.Geometry.Shape.SpanBytes)),
            RotationBytes = disks.Sum(static disk => disk.Plan.Base.LengthBytes),
            IsCut = _isCut,
            Omitted = Omitted,
        };
    }

    private async Task AuditAsync(List<Item> batch, ChunkBuffers buffers, CancellationToken cancellationToken)
    {
        foreach (var group in batch.GroupBy(static item => item.Disk))
        {
            var leaves = await group.Key.ReadLeavesAsync([.. group.Select(static item => item.Span)], cancellationToken);
            foreach (var (index, item) in group.Index())
            {
                item.Leaf = leaves[index];
            }
        }
        var queue = new Queue<Item>(batch);
        using var loops = new LoopGroup(cancellationToken);
        for (var i = 0; i < SpansInFlight; i++)
        {
            loops.Start(async token =>
            {
                while (Take(queue) is { } item)
                {
                    var buffer = await buffers.TakeAsync(token);
                    await item.Disk.AuditAsync(item.Span, item.Leaf, buffer, token);
                    buffers.Return(buffer);
                }
            });
        }
        await loops.WhenAllAsync();
        cancellationToken.ThrowIfCancellationRequested();
    }

    private Item? Take(Queue<Item> queue)
    {
        lock (queue)
        {
            while (queue.TryDequeue(out var item))
            {
                // The first span of each disk is read however late it is: no rotation stands still.
                if (item.Disk.Taken > 0 && IsLate)
                {
                    _isCut = true;
                    continue;
                }
                item.Disk.Taken++;
                return item;
            }
            return null;
        }
    }

    /// <summary>The next spans, of each disk as large a part of what is due.</summary>
    private List<Item> Next()
    {
        var batch = new List<Item>(Batch);
        var next = disks.ToDictionary(static disk => disk, static disk => disk.Taken);
        while (batch.Count < Batch)
        {
            var disk = next.Keys.Where(disk => next[disk] < disk.Plan.Spans.Length && (next[disk] == 0 || !IsLate))
                .MinBy(disk => (next[disk] + 0.5) / disk.Plan.Spans.Length);
            if (disk is null)
            {
                break;
            }
            batch.Add(new Item(disk, disk.Plan.Spans[next[disk]++]));
        }
        _isCut |= IsLate && next.Any(static entry => entry.Value < entry.Key.Plan.Spans.Length);
        return batch;
    }

    /// <summary>At the pace so far, which a short time limit may have set; never fewer than planned.</summary>
    private int RunsLeftOf(DiskAudit disk)
    {
        var (passed, taken) = (disk.Plan.Rotation.Position + disk.Taken, disk.Plan.Rotation.Runs + 1);
        var left = disk.Plan.Geometry.LeafCount - passed;
        if (left <= 0)
        {
            return 0;
        }
        var atThisPace = (long)Math.Min(int.MaxValue, Math.Ceiling(left * (double)taken / Math.Max(1, passed)));
        var planned = (long)((Int128)(disk.Plan.Geometry.LeafCount - 1) * plan.Options.Runs / disk.Plan.Geometry.LeafCount) + 1 - taken;
        return (int)Math.Max(atThisPace, Math.Max(1, planned));
    }

    private sealed class Item(DiskAudit disk, long span)
    {
        public DiskAudit Disk => disk;

        public long Span => span;

        public Format.Maps.MapLeaf? Leaf { get; set; }
    }
}
