using VirtBackup.Agent.Capture;
using VirtBackup.Format.Maps;
using VirtBackup.Hypervisors;
using VirtBackup.Sealing;

namespace VirtBackup.Agent.Auditing;

/// <summary>
/// Audits spans of one captured disk: each chunk of the base none of whose bytes is called changed is read and named, and
/// must have the base's name; a run of zeros must hold zeros. What is called changed the run reads anyway.
/// </summary>
internal sealed class DiskAudit(ICapturedDisk source, DiskAuditPlan plan, BaseLeaves leaves, ChunkKeys keys, Func<long, Memory<byte>, CancellationToken, ValueTask> read)
{
    private readonly UnchangedBlocks _blocks = new(plan.Base.LengthBytes);
    private readonly Dictionary<long, TouchedSpan> _touched = [];
    private readonly int _granuleLog2 = TouchedSpan.GranuleLog2Of(plan.Geometry.Shape);
    private long _auditedBlocks;
    private long _auditedBytes;
    private long _misses;
    private string? _miss;

    public ICapturedDisk Source => source;

    public DiskAuditPlan Plan => plan;

    /// <summary>Spans handed out; each of them is audited when the audit ends.</summary>
    public int Taken { get; set; }

    public long UnchangedBlocks => _blocks.Count;

    public long AuditedBlocks => Interlocked.Read(ref _auditedBlocks);

    public long AuditedBytes => Interlocked.Read(ref _auditedBytes);

    public long Misses => Interlocked.Read(ref _misses);

    public bool HasMissed => Misses > 0;

    /// <summary>Where tracking missed a change; null: nowhere.</summary>
    public string? Miss => Volatile.Read(ref _miss);

    /// <summary>Notes what is called changed in the spans that are due.</summary>
    public async Task SurveyAsync(CancellationToken cancellationToken)
    {
        var due = plan.Spans.ToHashSet();
        await foreach (var group in SpanPlanner.PlanAsync(_blocks.CountAsync(source.ListExtentsAsync(cancellationToken), cancellationToken), plan.Geometry, cancellationToken))
        {
            foreach (var span in group.Where(span => due.Contains(span.Leaf)))
            {
                _touched.Add(span.Leaf, span);
            }
        }
    }

    public Task<IReadOnlyList<MapLeaf?>> ReadLeavesAsync(IReadOnlyList<long> spans, CancellationToken cancellationToken) => leaves.ReadAsync(spans, cancellationToken);

    /// <summary>Audits one span, all of it: what a run finds would else depend on what it has found.</summary>
    /// <param name="buffer">As long as the longest chunk.</param>
    public async Task AuditAsync(long span, MapLeaf? leaf, Memory<byte> buffer, CancellationToken cancellationToken)
    {
        var place = plan.Geometry.PlaceOf(0, span);
        var start = plan.Geometry.OffsetOf(0, span);
        var from = start;
        var count = leaf?.Count ?? 1;
        long at = 0;
        for (var i = 0; i < count; i++)
        {
            var entry = leaf is { } known ? known[i] : MapEntry.Zeros((int)place.Length);
            for (var end = at + entry.Length; at < end;)
            {
                // Chunks are named whole; of a run of zeros every part is as good.
                var length = entry.IsZero ? UntouchedFrom(span, at, (int)Math.Min(buffer.Length, end - at)) : IsTouched(span, at, end) ? 0 : entry.Length;
                if (length == 0)
                {
                    Count(from, start + at);
                    at = entry.IsZero ? Math.Min(end, ((at >> _granuleLog2) + 1) << _granuleLog2) : end;
                    from = start + at;
                    continue;
                }
                await read(start + at, buffer[..length], cancellationToken);
                Interlocked.Add(ref _auditedBytes, length);
                if (!IsSame(entry, buffer.Span[..length]))
                {
                    Interlocked.Increment(ref _misses);
                    Interlocked.CompareExchange(ref _miss, $"disk {source.Disk.Name}, {length} bytes at {start + at}", null);
                }
                at += length;
            }
        }
        Count(from, start + at);
    }

    private bool IsSame(MapEntry entry, ReadOnlySpan<byte> content) =>
        entry.IsZero ? !content.ContainsAnyExcept((byte)0) : keys.ComputeSecret(content).DeriveId() == entry.Id;

    private bool IsTouched(long span, long start, long end) => _touched.TryGetValue(span, out var touched) && touched.IsAnyTouched(start, end, _granuleLog2);

    private int UntouchedFrom(long span, long start, int lengthMax)
    {
        if (!_touched.TryGetValue(span, out var touched))
        {
            return lengthMax;
        }
        var end = start;
        while (end < start + lengthMax && !touched.IsTouched((int)(end >> _granuleLog2)))
        {
            end = Math.Min(start + lengthMax, ((end >> _granuleLog2) + 1) << _granuleLog2);
        }
        return (int)(end - start);
    }

    private void Count(long start, long end) => Interlocked.Add(ref _auditedBlocks, _blocks.WholeIn(start, end));
}
