using System.Runtime.CompilerServices;
using VirtBackup.Format.Maps;

namespace VirtBackup.Agent.Capture;

/// <summary>A piece of a span: an entry of the base that holds still, a run of zeros, or content to be named.</summary>
/// <param name="Entry">Settled; its length is the piece's. Of content the length only.</param>
/// <param name="Content">Null: settled. Valid until the next piece.</param>
internal readonly record struct SpanPiece(MapEntry Entry, ReadOnlyMemory<byte>? Content);

/// <summary>
/// Cuts a span anew, by its content, only from the first chunk that a change can have moved to where the old cuts are met
/// again: a cut depends on nothing before the last one, so from there on all is as it was. Reads with one window of memory.
/// </summary>
/// <param name="window">At least <see cref="WindowBytesOf"/> bytes.</param>
/// <param name="read">Reads the span's content at an offset within it.</param>
internal sealed class SpanCutter(ContentCutter cutter, Memory<byte> window, Func<SpanRun, long, Memory<byte>, CancellationToken, ValueTask> read)
{
    private SpanRun _span = null!;
    private long _start;
    private int _fill;

    public static int WindowBytesOf(MapShape shape) => 2 * (shape.ChunkBytesMax + ContentCutter.ZeroRunBytes);

    /// <summary>The span's pieces, in order.</summary>
    public async IAsyncEnumerable<SpanPiece> CutAsync(SpanRun span, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        (_span, _start, _fill) = (span, 0, 0);
        var old = span.Untouched();
        var (next, nextStart) = (0, 0L);
        for (long at = 0; at < span.Place.Length;)
        {
            while (next < old.Count && nextStart < at)
            {
                nextStart += old[next++].Length;
            }
            if (nextStart == at && next < old.Count && IsAsItWas(old[next], at))
            {
                yield return new SpanPiece(old[next], null);
                at += old[next].Length;
                continue;
            }
            // Beside a change every byte is read that would else not be: no more of them than the cut needs.
            var wanted = span.Disk.Source.ChangedOnly ? span.Place.Shape.ChunkBytes + ContentCutter.ZeroRunBytes : cutter.LookaheadBytes;
            ReadOnlyMemory<byte> available;
            ContentCut cut;
            while (true)
            {
                await FillAsync(at, wanted, cancellationToken);
                available = window.Slice((int)(at - _start), (int)(_start + _fill - at));
                var reachesEnd = _start + _fill == span.Place.Length;
                if (available.Length > cutter.LookaheadBytes)
                {
                    (available, reachesEnd) = (available[..cutter.LookaheadBytes], at + cutter.LookaheadBytes == span.Place.Length);
                }
                if (cutter.TryNext(available.Span, at, reachesEnd, out cut))
                {
                    break;
                }
                wanted = Math.Min(cutter.LookaheadBytes, wanted + (span.Place.Shape.ChunkBytes / 2));
            }
            yield return cut.IsZero ? new SpanPiece(MapEntry.Zeros(cut.Length), null) : new SpanPiece(MapEntry.Zeros(cut.Length), available[..cut.Length]);
            at += cut.Length;
        }
    }

    /// <summary>
    /// Whether cutting here would give the same entry again: none of the bytes that its end depends on was touched.
    /// </summary>
    private bool IsAsItWas(MapEntry entry, long at)
    {
        if (!_span.Disk.Source.ChangedOnly)
        {
            return false;
        }
        var dependsOn = Math.Min(_span.Place.Length, at + entry.Length + ContentCutter.ZeroRunBytes);
        return !_span.Touched.IsAnyTouched(at, dependsOn, TouchedSpan.GranuleLog2Of(_span.Place.Shape));
    }

    /// <summary>Has the window hold so many bytes from this place, or up to the span's end.</summary>
    private async ValueTask FillAsync(long at, int bytes, CancellationToken cancellationToken)
    {
        var wanted = Math.Min(_span.Place.Length, at + bytes);
        if (at < _start || at > _start + _fill)
        {
            (_start, _fill) = (at, 0);
        }
        if (wanted <= _start + _fill)
        {
            return;
        }
        if (wanted - _start > window.Length)
        {
            var kept = (int)(_start + _fill - at);
            window.Slice((int)(at - _start), kept).CopyTo(window);
            (_start, _fill) = (at, kept);
        }
        var length = (int)(wanted - _start - _fill);
        await read(_span, _start + _fill, window.Slice(_fill, length), cancellationToken);
        _fill += length;
    }
}
