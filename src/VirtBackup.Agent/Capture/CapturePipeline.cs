using System.Threading.Channels;
using VirtBackup.Agent.Auditing;
using VirtBackup.Agent.Flow;
using VirtBackup.Agent.Guests;
using VirtBackup.Agent.Restore.Starting;
using VirtBackup.Agent.Upload;
using VirtBackup.Core;
using VirtBackup.Format.Maps;
using VirtBackup.Sealing;

namespace VirtBackup.Agent.Capture;

/// <summary>
/// The hot path: plan → read → find zeros → name → probe → compress and seal → send, as loops over bounded channels. The
/// chunk buffers are the bound of its memory, however big the disks.
/// </summary>
internal sealed class CapturePipeline(CaptureTools tools, StoreSession session, ChunkKeys keys, VmKey vmKey, ReadRateLimit rate, ReadRateLimit? impact, RunProgress progress) : IDisposable
{
    private const int ReadsInFlight = 16;
    private const int ProbesInFlight = 2;
    private const int ProbeBatch = 64;
    private const int BuffersMax = 96;
    private const int BuffersMin = 24;
    private const int BuffersBytes = 24 << 20;
    private const int SpansMax = 96;
    private const int CutsInFlight = 6;
    private const int GentleBytes = 256 << 10;

    private readonly Channel<ReadWork> _toRead = Channel.CreateBounded<ReadWork>(BuffersMax);
    private readonly Channel<NamedChunk> _toProbe = Channel.CreateBounded<NamedChunk>(BuffersMax);
    private readonly Channel<NamedChunk> _toSeal = Channel.CreateBounded<NamedChunk>(BuffersMax);
    private readonly SemaphoreSlim _spans = new(SpansMax);
    private readonly SentChunks _sent = new();
    private readonly SortedSet<Id16> _epochs = [];
    private readonly Dictionary<MapShape, ContentCutter> _cutters = [];
    private int _bufferBytes;
    private ChunkBuffers? _buffers;
    private ChunkBuffers? _windows;

    /// <summary>Key epochs of all entries seen.</summary>
    public IReadOnlySet<Id16> Epochs => _epochs;

    /// <summary>Captures all disks; when it returns everything has been appended to the session's lanes.</summary>
    public async Task RunAsync(IReadOnlyList<DiskRun> disks, CancellationToken cancellationToken)
    {
        _bufferBytes = disks.Max(disk => disk.Geometry.Shape.ChunkBytesMax);
        _buffers = new ChunkBuffers(Math.Clamp(BuffersBytes / _bufferBytes, BuffersMin, BuffersMax), _bufferBytes);
        PrepareCutting(disks);
        using var loops = new LoopGroup(cancellationToken);
        loops.Start(async token =>
        {
            foreach (var disk in disks)
            {
                await PlanAsync(disk, token);
            }
            _toRead.Writer.Complete();
        });
        loops.Start(token => CountAsync(disks, token));
        // What is planned is in order, so that one reader is a sequential one.
        StartStage(loops, disks.Any(static disk => disk.Source.SequentialOnly) ? 1 : ReadsInFlight, ReadLoopAsync, _toProbe.Writer);
        StartStage(loops, ProbesInFlight, ProbeLoopAsync, _toSeal.Writer);
        StartStage(loops, tools.Workers, SealLoopAsync, null);
        await loops.WhenAllAsync();
        cancellationToken.ThrowIfCancellationRequested();
    }

    private static void StartStage(LoopGroup loops, int count, Func<CancellationToken, Task> loop, ChannelWriter<NamedChunk>? next)
    {
        var running = count;
        for (var i = 0; i < count; i++)
        {
            loops.Start(async token =>
            {
                await loop(token);
                if (Interlocked.Decrement(ref running) == 0)
                {
                    next?.Complete();
                }
            });
        }
    }

    public void Dispose() => _spans.Dispose();

    // A pass over the extents of its own: people see a percentage from the start, and reading does not wait for it.
    private async Task CountAsync(IReadOnlyList<DiskRun> disks, CancellationToken cancellationToken)
    {
        foreach (var disk in disks)
        {
            long next = 0;
            await foreach (var extent in disk.Source.ListExtentsAsync(cancellationToken))
            {
                var chunk = 1L << TouchedSpan.GranuleLog2Of(disk.Geometry.Shape);
                var first = Math.Max(extent.Offset / chunk * chunk, next);
                next = Math.Min((extent.End + chunk - 1) / chunk * chunk, disk.Geometry.StreamLength);
                progress.AddTotal(Math.Max(0, next - first));
            }
        }
    }

    private async Task PlanAsync(DiskRun disk, CancellationToken cancellationToken)
    {
        if (disk.Geometry.StreamLength == 0)
        {
            return;
        }
        await foreach (var group in SpanPlanner.PlanAsync(disk.Source.ListExtentsAsync(cancellationToken), disk.Geometry, cancellationToken))
        {
            var leaves = group.Select(span => span.Leaf).ToArray();
            var bases = await disk.Map.EnterAsync(leaves[0] / MapShape.Radix, leaves, cancellationToken);
            for (var i = 0; i < leaves.Length; i++)
            {
                await _spans.WaitAsync(cancellationToken);
                var span = new SpanRun(disk, leaves[i], bases[i], group[i]);
                if (!span.IsFixed)
                {
                    await _toRead.Writer.WriteAsync(new ReadWork(span, WholeSpan), cancellationToken);
                    continue;
                }
                for (var chunk = 0; chunk < span.ChunkCount; chunk++)
                {
                    if (group[i].IsTouched(chunk))
                    {
                        await _toRead.Writer.WriteAsync(new ReadWork(span, chunk), cancellationToken);
                    }
                }
            }
        }
        await disk.Map.FinishPlanningAsync(cancellationToken);
    }

    private async Task ReadLoopAsync(CancellationToken cancellationToken)
    {
        await foreach (var work in _toRead.Reader.ReadAllAsync(cancellationToken))
        {
            if (work.Chunk == WholeSpan)
            {
                await CutAsync(work.Span, cancellationToken);
                continue;
            }
            var length = work.Span.LengthOf(work.Chunk);
            var buffer = await _buffers!.TakeAsync(cancellationToken);
            await ReadAsync(work.Span, work.Span.OffsetOf(work.Chunk), buffer[..length], cancellationToken);
            progress.AddDone(length);
            if (!buffer.Span[..length].ContainsAnyExcept((byte)0))
            {
                progress.CountZero();
                await FinishAsync(work, MapEntry.Zeros(length), buffer, cancellationToken);
                continue;
            }
            await NameAsync(work, buffer, length, cancellationToken);
        }
    }

    private async ValueTask ReadAsync(SpanRun span, long offset, Memory<byte> target, CancellationToken cancellationToken)
    {
        await rate.WaitAsync(target.Length, cancellationToken);
        await tools.SharedRate.WaitAsync(target.Length, cancellationToken);
        if (impact is { BytesPerSecond: > 0 })
        {
            await ReadGentlyAsync(impact, span, offset, target, cancellationToken);
        }
        else
        {
            await span.Disk.Source.ReadAsync(offset, target, cancellationToken);
        }
        span.Disk.CountRead(target.Length);
    }

    // In small pieces, so that a guest's write never waits behind much.
    private static async ValueTask ReadGentlyAsync(ReadRateLimit limit, SpanRun span, long offset, Memory<byte> target, CancellationToken cancellationToken)
    {
        for (var at = 0; at < target.Length; at += GentleBytes)
        {
            var piece = target.Slice(at, Math.Min(GentleBytes, target.Length - at));
            await limit.WaitAsync(piece.Length, cancellationToken);
            await span.Disk.Source.ReadAsync(offset + at, piece, cancellationToken);
        }
    }

    private async ValueTask NameAsync(ReadWork work, Memory<byte> buffer, int length, CancellationToken cancellationToken)
    {
        var secret = keys.ComputeSecret(buffer.Span[..length]);
        var id = secret.DeriveId();
        if (work.Span.TryGetSame(work.Chunk, id, out var same) && same.Length == length)
        {
            progress.CountKnown();
            await FinishAsync(work, same, buffer, cancellationToken);
            return;
        }
        await _toProbe.Writer.WriteAsync(new NamedChunk(work, buffer, length, id, secret), cancellationToken);
    }

    private void PrepareCutting(IReadOnlyList<DiskRun> disks)
    {
        Span<ulong> gear = stackalloc ulong[256];
        foreach (var shape in disks.Select(static disk => disk.Geometry.Shape).Where(static shape => shape.Chunker == Chunker.ContentDefined).Distinct())
        {
            keys.FillGearTable(gear);
            _cutters.Add(shape, new ContentCutter(shape, gear));
        }
        gear.Clear();
        if (_cutters.Count > 0)
        {
            _windows = new ChunkBuffers(CutsInFlight, _cutters.Keys.Max(SpanCutter.WindowBytesOf));
        }
    }

    /// <summary>Cuts a span by its content; its chunks go on as those of one length do.</summary>
    private async ValueTask CutAsync(SpanRun span, CancellationToken cancellationToken)
    {
        var window = await _windows!.TakeAsync(cancellationToken);
        await foreach (var piece in new SpanCutter(_cutters[span.Place.Shape], window, ReadTouchedAsync).CutAsync(span, cancellationToken))
        {
            if (piece.Content is not { } content)
            {
                span.Add(piece.Entry);
                if (piece.Entry.IsZero)
                {
                    progress.CountZero();
                }
                continue;
            }
            var buffer = await _buffers!.TakeAsync(cancellationToken);
            content.CopyTo(buffer);
            await NameAsync(new ReadWork(span, span.Reserve()), buffer, content.Length, cancellationToken);
        }
        _windows.Return(window);
        if (span.FinishCutting())
        {
            await CompleteAsync(span, cancellationToken);
        }
    }

    /// <summary>Reads a part of a span; what is known to hold zeros is not read.</summary>
    private async ValueTask ReadTouchedAsync(SpanRun span, long offset, Memory<byte> target, CancellationToken cancellationToken)
    {
        var granuleLog2 = TouchedSpan.GranuleLog2Of(span.Place.Shape);
        var isSparse = span.ReadsZerosWhereUntouched;
        for (var at = 0; at < target.Length;)
        {
            var granule = (int)((offset + at) >> granuleLog2);
            var isTouched = span.Touched.IsTouched(granule);
            var end = at;
            while (end < target.Length && span.Touched.IsTouched((int)((offset + end) >> granuleLog2)) == isTouched)
            {
                end = (int)Math.Min(target.Length, ((((offset + end) >> granuleLog2) + 1) << granuleLog2) - offset);
            }
            if (isTouched || !isSparse)
            {
                await ReadAsync(span, span.SpanOffset + offset + at, target[at..end], cancellationToken);
            }
            else
            {
                target.Span[at..end].Clear();
            }
            if (isTouched)
            {
                progress.AddDone(end - at);
            }
            at = end;
        }
    }

    private async Task ProbeLoopAsync(CancellationToken cancellationToken)
    {
        var batch = new List<NamedChunk>(ProbeBatch);
        var ids = new byte[ProbeBatch * Id32.Size];
        while (await _toProbe.Reader.WaitToReadAsync(cancellationToken))
        {
            batch.Clear();
            while (batch.Count < ProbeBatch && _toProbe.Reader.TryRead(out var chunk))
            {
                if (_sent.TryAdd(chunk.Id))
                {
                    chunk.Id.Write(ids.AsSpan(batch.Count * Id32.Size));
                    batch.Add(chunk);
                }
                else
                {
                    await FinishKnownAsync(chunk, cancellationToken);
                }
            }
            if (batch.Count == 0)
            {
                continue;
            }
            var present = await session.ProbeAsync(ids.AsMemory(0, batch.Count * Id32.Size), cancellationToken);
            for (var i = 0; i < batch.Count; i++)
            {
                if ((present.Span[i / 8] & (1 << (i % 8))) != 0)
                {
                    await FinishKnownAsync(batch[i], cancellationToken);
                }
                else
                {
                    await _toSeal.Writer.WriteAsync(batch[i], cancellationToken);
                }
            }
        }
    }

    private async Task SealLoopAsync(CancellationToken cancellationToken)
    {
        using var sealer = new ChunkSealer(keys, tools.Entropy, _bufferBytes);
        var record = new byte[ChunkSealer.RecordBytesMax(_bufferBytes)];
        await foreach (var chunk in _toSeal.Reader.ReadAllAsync(cancellationToken))
        {
            var length = sealer.Seal(chunk.Plain, chunk.Id, chunk.Secret, record);
            await session.Data.AppendAsync(record.AsMemory(0, length), cancellationToken);
            progress.CountNew();
            chunk.Work.Span.Disk.CountSent(length);
            await FinishAsync(chunk.Work, EntryOf(chunk), chunk.Buffer, cancellationToken);
        }
    }

    private async ValueTask FinishKnownAsync(NamedChunk chunk, CancellationToken cancellationToken)
    {
        progress.CountKnown();
        await FinishAsync(chunk.Work, EntryOf(chunk), chunk.Buffer, cancellationToken);
    }

    private MapEntry EntryOf(NamedChunk chunk) => new(chunk.Length, chunk.Id, vmKey.Mask(chunk.Id, chunk.Secret), vmKey.EpochId);

    private async ValueTask FinishAsync(ReadWork work, MapEntry entry, Memory<byte> buffer, CancellationToken cancellationToken)
    {
        _buffers!.Return(buffer);
        if (work.Span.Set(work.Chunk, entry))
        {
            await CompleteAsync(work.Span, cancellationToken);
        }
    }

    private async ValueTask CompleteAsync(SpanRun span, CancellationToken cancellationToken)
    {
        await span.Disk.Map.SetLeafAsync(span.Leaf, span.Build(_epochs), span.BaseId, cancellationToken);
        _spans.Release();
    }

    private const int WholeSpan = -1;

    private readonly record struct ReadWork(SpanRun Span, int Chunk);

    private readonly record struct NamedChunk(ReadWork Work, Memory<byte> Buffer, int Length, Id32 Id, ChunkSecret Secret)
    {
        public ReadOnlySpan<byte> Plain => Buffer.Span[..Length];
    }
}

/// <summary>What runs need from their surroundings.</summary>
/// <param name="Workers">Loops that compress and seal: the processors to be used.</param>
/// <param name="ReadBytesPerSecondMax">What all backups of this agent together may read, bytes per second; 0: no limit.</param>
/// <param name="JobEnded">Called behind every job, when it holds nothing any more; from any thread.</param>
public sealed record CaptureTools(TimeProvider Time, IEntropy Entropy, int Workers, long ReadBytesPerSecondMax = 0, Action? JobEnded = null)
{
    /// <summary>How disks are cut.</summary>
    public MapShape Shape { get; init; } = MapShape.Default;

    /// <summary>How guests are treated while they are backed up.</summary>
    public GuestPolicies Guests { get; init; } = GuestPolicies.Default;

    /// <summary>The commands that readiness probes may name.</summary>
    public IReadOnlyDictionary<string, ProbeCommand> ProbeCommands { get; init; } = new Dictionary<string, ProbeCommand>();

    /// <summary>
    /// Begins work that somebody waits for, such as a frozen guest: it must not be done at the low priority of the rest. Disposing the
    /// result ends it.
    /// </summary>
    public Func<IDisposable>? BeginUrgent { get; init; }

    /// <summary>How change tracking is audited.</summary>
    public AuditOptions Audit { get; init; } = AuditOptions.Default;

    internal ReadRateLimit SharedRate { get; } = new(ReadBytesPerSecondMax, Time);
}
