using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using VirtBackup.Core;

namespace VirtBackup.Format.Maps;

/// <summary>Where a chunk ends.</summary>
/// <param name="Length">Bytes from its begin.</param>
/// <param name="IsZero">A run of zeros, which is not stored.</param>
public readonly record struct ContentCut(int Length, bool IsZero);

/// <summary>
/// Cuts the content of a span into content-defined chunks (FastCDC: a gear hash of the last 64 bytes, a stricter mask before
/// the average length than behind it). A cut depends only on the bytes from the last cut to
/// <see cref="LookaheadBytes"/> behind it and on their place in the span: so cutting may begin at any earlier cut, and where
/// the bytes are the same from a cut on, so are all further cuts. Safe for concurrent use.
/// </summary>
/// <remarks>
/// Chunks have a quarter of the average length to four times of it; only the span's end, and the begin of a run of zeros,
/// make shorter ones. A run of at least <see cref="ZeroRunBytes"/>, or up to the span's end, that begins at a page is cut out
/// as a run of its own; it ends at a page again.
/// </remarks>
public sealed class ContentCutter
{
    /// <summary>Shortest run of zeros inside a span that is cut out.</summary>
    public const int ZeroRunBytes = 16 << 10;

    private const int WindowBytes = 64;

    private readonly ulong[] _gear;
    private readonly int _min;
    private readonly int _average;
    private readonly int _max;
    private readonly ulong _strict;
    private readonly ulong _loose;

    /// <param name="shape">Content-defined.</param>
    /// <param name="gear">256 entries, from the keys of the chunks' scope.</param>
    public ContentCutter(MapShape shape, ReadOnlySpan<ulong> gear)
    {
        Check.That(shape.Chunker == Chunker.ContentDefined && shape.FindViolation() is null && gear.Length == 256);
        _gear = gear.ToArray();
        (_min, _average, _max) = (shape.ChunkBytes / 4, shape.ChunkBytes, shape.ChunkBytesMax);
        _strict = ~0UL << (64 - (shape.ChunkLog2 + 2));
        _loose = ~0UL << (64 - (shape.ChunkLog2 - 2));
    }

    /// <summary>Bytes that a cut may depend on, from its chunk's begin.</summary>
    public int LookaheadBytes => _max + ZeroRunBytes;

    /// <summary>The next chunk.</summary>
    /// <param name="bytes">The span's content from <paramref name="offset"/>: <see cref="LookaheadBytes"/>, or up to the span's end; at least one.</param>
    /// <param name="offset">Of the last cut, within the span.</param>
    /// <param name="reachesEnd">The bytes reach the span's end.</param>
    public ContentCut Next(ReadOnlySpan<byte> bytes, long offset, bool reachesEnd)
    {
        Check.That(bytes.Length > 0 && (reachesEnd || bytes.Length >= LookaheadBytes));
        return Find(bytes, offset, reachesEnd);
    }

    private ContentCut Find(ReadOnlySpan<byte> bytes, long offset, bool reachesEnd)
    {
        var end = Math.Min(bytes.Length, _max);
        if (FindZeroRun(bytes, end, offset, reachesEnd) is > 0 and var zeros)
        {
            return new ContentCut(zeros, IsZero: true);
        }
        var cut = FindCut(bytes[..end]);
        for (var at = Limits.PageBytes - (int)(offset % Limits.PageBytes); at < cut; at += Limits.PageBytes)
        {
            if (IsZeroRun(bytes, at, reachesEnd))
            {
                return new ContentCut(at, IsZero: false);
            }
        }
        return new ContentCut(cut, IsZero: false);
    }

    /// <summary>The next chunk, if fewer bytes than <see cref="Next"/> wants show already where it ends.</summary>
    /// <param name="bytes">The span's content from <paramref name="offset"/>; at least one byte.</param>
    /// <param name="offset">Of the last cut, within the span.</param>
    /// <param name="reachesEnd">The bytes reach the span's end.</param>
    /// <param name="cut">The chunk; default when false.</param>
    /// <returns>False: more bytes are needed.</returns>
    public bool TryNext(ReadOnlySpan<byte> bytes, long offset, bool reachesEnd, out ContentCut cut)
    {
        cut = Find(bytes, offset, reachesEnd);
        // A cut depends on nothing behind the run of zeros that might begin at it.
        if (reachesEnd || bytes.Length >= LookaheadBytes || cut.Length + ZeroRunBytes <= bytes.Length)
        {
            return true;
        }
        cut = default;
        return false;
    }

    private static int FindZeroRun(ReadOnlySpan<byte> bytes, int end, long offset, bool reachesEnd)
    {
        if (bytes[0] != 0)
        {
            return 0;
        }
        var zeros = bytes[..end].IndexOfAnyExcept((byte)0);
        if (zeros < 0)
        {
            return end;
        }
        var whole = zeros - (int)((offset + zeros) % Limits.PageBytes);
        return whole >= ZeroRunBytes || (reachesEnd && zeros == bytes.Length) ? whole : 0;
    }

    private static bool IsZeroRun(ReadOnlySpan<byte> bytes, int at, bool reachesEnd)
    {
        if (bytes[at] != 0)
        {
            return false;
        }
        var run = bytes[at..];
        if (run.Length > ZeroRunBytes)
        {
            run = run[..ZeroRunBytes];
        }
        return (run.Length == ZeroRunBytes || reachesEnd) && !run.ContainsAnyExcept((byte)0);
    }

    private int FindCut(ReadOnlySpan<byte> bytes)
    {
        if (bytes.Length <= _min)
        {
            return bytes.Length;
        }
        ulong hash = 0;
        var at = Math.Max(0, _min - WindowBytes);
        for (; at < _min; at++)
        {
            hash = (hash << 1) + _gear[bytes[at]];
        }
        var normal = Math.Min(_average, bytes.Length);
        var cut = FindCut(bytes[..normal], at, ref hash, _strict);
        if (cut == 0)
        {
            cut = FindCut(bytes, normal, ref hash, _loose);
        }
        return cut == 0 ? bytes.Length : cut;
    }

    /// <summary>The first cut behind <paramref name="at"/>; 0: there is none. Every byte of whatever is backed up runs through it.</summary>
    private int FindCut(ReadOnlySpan<byte> bytes, int at, ref ulong hash, ulong mask)
    {
        // 256 entries for 256 values of a byte, and places below the length: nothing here can be out of bounds.
        ref var gear = ref MemoryMarshal.GetArrayDataReference(_gear);
        ref var first = ref MemoryMarshal.GetReference(bytes);
        var rolling = hash;
        // Two bytes a turn: the second hash does not wait for the first.
        for (var pairs = bytes.Length - 1; at < pairs; at += 2)
        {
            var one = Unsafe.Add(ref gear, (nint)Unsafe.Add(ref first, (nint)at));
            var two = (one << 1) + Unsafe.Add(ref gear, (nint)Unsafe.Add(ref first, (nint)at + 1));
            if ((((rolling << 1) + one) & mask) == 0)
            {
                return at + 1;
            }
            rolling = (rolling << 2) + two;
            if ((rolling & mask) == 0)
            {
                return at + 2;
            }
        }
        if (at < bytes.Length)
        {
            rolling = (rolling << 1) + Unsafe.Add(ref gear, (nint)Unsafe.Add(ref first, (nint)at));
            if ((rolling & mask) == 0)
            {
                return at + 1;
            }
        }
        hash = rolling;
        return 0;
    }
}
