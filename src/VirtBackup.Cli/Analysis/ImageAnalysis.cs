using System.Collections.Concurrent;
using Microsoft.Win32.SafeHandles;
using VirtBackup.Core;
using VirtBackup.Format.Maps;
using VirtBackup.Sealing;

namespace VirtBackup.Cli.Analysis;

/// <summary>
/// Cuts raw disk images in several ways at once, fixed and by content, and names, compresses and seals them as a backup would,
/// under keys that are thrown away. Every image is read once; memory is bounded, whatever the images' size.
/// </summary>
internal sealed class ImageAnalysis(TimeProvider time, IEntropy entropy)
{
    /// <summary>The longest span of a map: no chunk crosses one.</summary>
    private const int BlockBytes = 16 << 20;

    private readonly ChunkSizeTally[] _tallies =
    [
        .. new byte[] { 16, 18, 20, 22 }.Select(static log2 => new ChunkSizeTally(MapShape.Of(Chunker.Fixed, log2))),
        .. new byte[] { 16, 17, 18 }.Select(static log2 => new ChunkSizeTally(MapShape.Of(Chunker.ContentDefined, log2))),
    ];

    private readonly Dictionary<MapShape, ContentCutter> _cutters = [];
    private long _bytesRead;

    /// <param name="images">All of them together: chunks that several have count once.</param>
    /// <param name="progress">Told the bytes that were read of all.</param>
    /// <param name="cancellationToken">Stops it.</param>
    public async Task<AnalysisView> RunAsync(IReadOnlyList<RawImage> images, Action<long, long> progress, CancellationToken cancellationToken)
    {
        var began = time.GetTimestamp();
        var total = images.Sum(static image => image.Length);
        using var root = RootSecret.Create(entropy);
        using var idKey = root.DeriveIdKey(Id16.Create(entropy), 1);
        using var keys = idKey.DeriveChunkKeys();
        PrepareCutting(keys);
        var idle = new ConcurrentBag<Worker>();
        try
        {
            var blocks = images.SelectMany(static image => Blocks(image.Length).Select(offset => (image.File, Offset: offset, Length: (int)Math.Min(BlockBytes, image.Length - offset))));
            var options = new ParallelOptions { MaxDegreeOfParallelism = Environment.ProcessorCount, CancellationToken = cancellationToken };
            await Parallel.ForEachAsync(blocks, options, async (block, cancel) =>
            {
                var worker = idle.TryTake(out var free) ? free : new Worker(keys, entropy);
                try
                {
                    await worker.ReadAsync(block.File, block.Offset, block.Length, cancel);
                    Analyse(worker, block.Length);
                }
                finally
                {
                    idle.Add(worker);
                }
                progress(Interlocked.Add(ref _bytesRead, block.Length), total);
            });
        }
        finally
        {
            foreach (var worker in idle)
            {
                worker.Dispose();
            }
        }
        return new AnalysisView(
            [.. images.Select(static image => new ImageView(image.Path, (ulong)image.Length))], [.. _tallies.Select(static tally => tally.ToView())],
            time.GetElapsedTime(began).TotalSeconds);
    }

    private static IEnumerable<long> Blocks(long length)
    {
        for (var offset = 0L; offset < length; offset += BlockBytes)
        {
            yield return offset;
        }
    }

    private void Analyse(Worker worker, int length)
    {
        if (worker.IsZero(length))
        {
            Array.ForEach(_tallies, tally => tally.AddZeros(length));
            return;
        }
        foreach (var tally in _tallies)
        {
            var began = time.GetTimestamp();
            if (tally.Shape.Chunker == Chunker.ContentDefined)
            {
                Cut(worker, tally, length);
            }
            else
            {
                for (var at = 0; at < length; at += tally.Shape.ChunkBytes)
                {
                    worker.Add(tally, at, Math.Min(tally.Shape.ChunkBytes, length - at));
                }
            }
            tally.AddWork(time.GetElapsedTime(began));
        }
    }

    private void PrepareCutting(ChunkKeys keys)
    {
        Span<ulong> gear = stackalloc ulong[256];
        keys.FillGearTable(gear);
        foreach (var shape in _tallies.Select(static tally => tally.Shape).Where(static shape => shape.Chunker == Chunker.ContentDefined))
        {
            _cutters[shape] = new ContentCutter(shape, gear);
        }
    }

    /// <summary>Span by span, as a backup would.</summary>
    private void Cut(Worker worker, ChunkSizeTally tally, int length)
    {
        var cutter = _cutters[tally.Shape];
        for (var span = 0; span < length; span += (int)tally.Shape.SpanBytes)
        {
            var end = Math.Min(length, span + (int)tally.Shape.SpanBytes);
            for (var at = span; at < end;)
            {
                var seen = Math.Min(end - at, cutter.LookaheadBytes);
                var cut = cutter.Next(worker.Block(at, seen), at - span, at + seen == end);
                worker.Add(tally, at, cut.Length);
                at += cut.Length;
            }
        }
    }

    private sealed class Worker(ChunkKeys keys, IEntropy entropy) : IDisposable
    {
        private readonly ChunkSealer _sealer = new(keys, entropy);
        private readonly byte[] _block = new byte[BlockBytes];
        private readonly byte[] _record = new byte[ChunkSealer.RecordBytesMax(Limits.ChunkBytesMax)];

        public async ValueTask ReadAsync(SafeFileHandle file, long offset, int length, CancellationToken cancellationToken)
        {
            for (var done = 0; done < length;)
            {
                var count = await RandomAccess.ReadAsync(file, _block.AsMemory(done, length - done), offset + done, cancellationToken);
                done += count > 0 ? count : throw new EndOfStreamException("An image became shorter while it was read.");
            }
        }

        public ReadOnlySpan<byte> Block(int offset, int length) => _block.AsSpan(offset, length);

        public bool IsZero(int length) => !_block.AsSpan(0, length).ContainsAnyExcept((byte)0);

        public void Add(ChunkSizeTally tally, int offset, int length)
        {
            var plain = _block.AsSpan(offset, length);
            if (!_sealer.ComputeId(plain, out var id, out var secret))
            {
                tally.AddZeros(length);
            }
            else if (tally.Add(id, length))
            {
                tally.SetStored(id, _sealer.Seal(plain, id, secret, _record));
            }
        }

        public void Dispose() => _sealer.Dispose();
    }
}
