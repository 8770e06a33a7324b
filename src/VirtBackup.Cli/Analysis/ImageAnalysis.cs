using System.Collections.Concurrent;
using Microsoft.Win32.SafeHandles;
using VirtBackup.Core;
using VirtBackup.Sealing;

namespace VirtBackup.Cli.Analysis;

/// <summary>
/// Cuts raw disk images into fixed chunks of several sizes at once, and names, compresses and seals them as a backup would,
/// under keys that are thrown away. Every image is read once; memory is bounded, whatever the images' size.
/// </summary>
internal sealed class ImageAnalysis(TimeProvider time, IEntropy entropy)
{
    private const int BlockBytes = Limits.ChunkBytesMax;

    private static readonly int[] ChunkSizes = [64 << 10, 256 << 10, 1 << 20, BlockBytes];

    private readonly ChunkSizeTally[] _tallies = [.. ChunkSizes.Select(static size => new ChunkSizeTally(size))];
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
            for (var at = 0; at < length; at += tally.ChunkBytes)
            {
                worker.Add(tally, at, Math.Min(tally.ChunkBytes, length - at));
            }
            tally.AddWork(time.GetElapsedTime(began));
        }
    }

    private sealed class Worker(ChunkKeys keys, IEntropy entropy) : IDisposable
    {
        private readonly ChunkSealer _sealer = new(keys, entropy, BlockBytes);
        private readonly byte[] _block = new byte[BlockBytes];
        private readonly byte[] _record = new byte[ChunkSealer.RecordBytesMax(BlockBytes)];

        public async ValueTask ReadAsync(SafeFileHandle file, long offset, int length, CancellationToken cancellationToken)
        {
            for (var done = 0; done < length;)
            {
                var count = await RandomAccess.ReadAsync(file, _block.AsMemory(done, length - done), offset + done, cancellationToken);
                done += count > 0 ? count : throw new EndOfStreamException("An image became shorter while it was read.");
            }
        }

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
