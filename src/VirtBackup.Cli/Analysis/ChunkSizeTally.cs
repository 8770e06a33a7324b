using VirtBackup.Core;
using VirtBackup.Format.Maps;

namespace VirtBackup.Cli.Analysis;

/// <summary>What images come to when they are cut in one way. Safe for concurrent use.</summary>
internal sealed class ChunkSizeTally(MapShape shape)
{
    private readonly Lock _lock = new();
    private readonly DistinctChunks _distinct = new();
    private ulong _chunks;
    private ulong _zeroChunks;
    private ulong _logicalBytes;
    private ulong _zeroBytes;
    private TimeSpan _work;

    public MapShape Shape => shape;

    public void AddZeros(int bytes)
    {
        lock (_lock)
        {
            var chunks = shape.Chunker == Chunker.Fixed ? (ulong)((bytes + shape.ChunkBytes - 1) / shape.ChunkBytes) : 1;
            _chunks += chunks;
            _zeroChunks += chunks;
            _logicalBytes += (ulong)bytes;
            _zeroBytes += (ulong)bytes;
        }
    }

    /// <summary>True for a chunk that was not met before: the caller compresses it and tells its size.</summary>
    public bool Add(Id32 id, int bytes)
    {
        lock (_lock)
        {
            _chunks++;
            _logicalBytes += (ulong)bytes;
            return _distinct.TryAdd(id, bytes);
        }
    }

    public void SetStored(Id32 id, int bytes)
    {
        lock (_lock)
        {
            _distinct.SetStored(id, bytes);
        }
    }

    /// <summary>Time that a processor worked on this size.</summary>
    public void AddWork(TimeSpan time)
    {
        lock (_lock)
        {
            _work += time;
        }
    }

    public ChunkSizeView ToView()
    {
        lock (_lock)
        {
            var (unique, stored) = (_distinct.RawBytes, _distinct.StoredBytes);
            return new ChunkSizeView(
                shape.Chunker == Chunker.Fixed ? "fixed" : "content-defined", shape.ChunkBytes, _chunks, _zeroChunks, _logicalBytes, _zeroBytes, _distinct.Count, unique, stored, Ratio(_logicalBytes - _zeroBytes, unique),
                Ratio(_logicalBytes, stored), _distinct.IsEstimate, _work.TotalSeconds);
        }
    }

    private static double? Ratio(ulong whole, ulong part) => part == 0 ? null : Math.Round((double)whole / part, 3);
}

/// <summary>
/// <see cref="ChunkBytes"/>: the average where cuts follow the content. <see cref="DedupRatio"/>: bytes that are not zero to different bytes; <see cref="TotalRatio"/>: all bytes to stored bytes;
/// null when nothing is stored. <see cref="Estimated"/>: the unique and stored sums are estimates from a sample.
/// </summary>
internal sealed record ChunkSizeView(
    string Chunker, int ChunkBytes, ulong Chunks, ulong ZeroChunks, ulong LogicalBytes, ulong ZeroBytes, ulong UniqueChunks, ulong UniqueBytes, ulong StoredBytes,
    double? DedupRatio, double? TotalRatio, bool Estimated, double CpuSeconds);

internal sealed record ImageView(string Path, ulong Bytes);

internal sealed record AnalysisView(IReadOnlyList<ImageView> Images, IReadOnlyList<ChunkSizeView> ChunkSizes, double Seconds);
