using VirtBackup.Core;

namespace VirtBackup.Format.Maps;

/// <summary>How a stream was cut into chunks.</summary>
public enum Chunker : byte
{
    /// <summary>Every chunk has the same length; only the stream's tail may be shorter.</summary>
    Fixed = 1,
    /// <summary>Cuts follow the content; a leaf lists each length.</summary>
    ContentDefined = 2,
}

/// <summary>
/// The parameters that all nodes of one map share. A leaf covers a span of 2^<see cref="SpanLog2"/> bytes; chunks (their
/// average, when content-defined) have 2^<see cref="ChunkLog2"/> bytes and never cross a span.
/// </summary>
public readonly record struct MapShape(Chunker Chunker, byte ChunkLog2, byte SpanLog2)
{
    /// <summary>Smallest chunk: 4 KiB.</summary>
    public const int ChunkLog2Min = 12;

    /// <summary>Largest chunk: <see cref="Limits.ChunkBytesMax"/>.</summary>
    public const int ChunkLog2Max = 22;

    /// <summary>A span has at most 2^8 chunks of (average) length.</summary>
    public const int ChunksPerSpanLog2Max = 8;

    /// <summary>Children of an inner node.</summary>
    public const int Radix = 64;

    internal const int RadixLog2 = 6;

    /// <summary>Fixed chunks of 256 KiB, spans of 16 MiB.</summary>
    public static MapShape Default => new(Chunker.Fixed, 18, 24);

    /// <summary>(Average) chunk length in bytes.</summary>
    public int ChunkBytes => 1 << ChunkLog2;

    /// <summary>Bytes of the longest chunk that a map of this shape may name.</summary>
    public int ChunkBytesMax => Chunker == Chunker.Fixed ? ChunkBytes : Math.Min(4 * ChunkBytes, Limits.ChunkBytesMax);

    /// <summary>Bytes of a stream that one leaf covers.</summary>
    public long SpanBytes => 1L << SpanLog2;

    /// <summary>The usual shape for a chunk length: spans of 64 chunks.</summary>
    public static MapShape Of(Chunker chunker, byte chunkLog2) => new(chunker, chunkLog2, (byte)(chunkLog2 + RadixLog2));

    /// <summary>The rule that the parameters break, or null.</summary>
    public string? FindViolation()
    {
        if (Chunker is not (Chunker.Fixed or Chunker.ContentDefined))
        {
            return $"chunker {(byte)Chunker} is unknown";
        }
        if (ChunkLog2 is < ChunkLog2Min or > ChunkLog2Max)
        {
            return $"a chunk length of 2^{ChunkLog2} bytes is not allowed";
        }
        return SpanLog2 >= ChunkLog2 && SpanLog2 <= ChunkLog2 + ChunksPerSpanLog2Max
            ? null : $"a span of 2^{SpanLog2} bytes does not fit chunks of 2^{ChunkLog2} bytes";
    }
}
