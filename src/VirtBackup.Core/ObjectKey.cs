using System.Buffers;

namespace VirtBackup.Core;

/// <summary>The grammar of object keys, the same for every store. See <see cref="IObjectStore"/>.</summary>
public static class ObjectKey
{
    /// <summary>Longest key, in characters.</summary>
    public const int LengthMax = 512;

    /// <summary>Longest segment, in characters: what file systems allow for a name.</summary>
    public const int SegmentLengthMax = 255;

    private static readonly SearchValues<char> s_segmentCharacters =
        SearchValues.Create("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-");

    /// <summary>Whether <paramref name="key"/> may name an object.</summary>
    public static bool IsValid(ReadOnlySpan<char> key)
    {
        if (key.Length is 0 or > LengthMax)
        {
            return false;
        }
        var isFirst = true;
        foreach (var range in key.Split('/'))
        {
            var segment = key[range];
            if (!IsSegment(segment) || (isFirst && IsReserved(segment)))
            {
                return false;
            }
            isFirst = false;
        }
        return true;
    }

    /// <summary>Whether <paramref name="prefix"/> may be listed: empty, or whole segments with a '/' behind each.</summary>
    public static bool IsPrefix(ReadOnlySpan<char> prefix) => prefix.IsEmpty || (prefix[^1] == '/' && IsValid(prefix[..^1]));

    /// <exception cref="FaultException"><see cref="FaultReason.InvalidArgument"/>: not a key.</exception>
    public static void Require(string key)
    {
        ArgumentNullException.ThrowIfNull(key);
        if (!IsValid(key))
        {
            throw new FaultException(FaultReason.InvalidArgument, $"'{Shown(key)}' is not a valid object key.");
        }
    }

    /// <exception cref="FaultException"><see cref="FaultReason.InvalidArgument"/>: not a prefix.</exception>
    public static void RequirePrefix(string prefix)
    {
        ArgumentNullException.ThrowIfNull(prefix);
        if (!IsPrefix(prefix))
        {
            throw new FaultException(FaultReason.InvalidArgument, $"'{Shown(prefix)}' is not a valid prefix of object keys.");
        }
    }

    private static bool IsSegment(ReadOnlySpan<char> segment) =>
        segment.Length is > 0 and <= SegmentLengthMax && !segment.ContainsAnyExcept(s_segmentCharacters) && segment is not "." and not "..";

    // Names that stores keep for themselves; in any case of letters, because some file systems do not tell them apart.
    private static bool IsReserved(ReadOnlySpan<char> segment) =>
        segment.Equals("staging", StringComparison.OrdinalIgnoreCase) || segment.Equals("lock", StringComparison.OrdinalIgnoreCase);

    // Keys can come from outside: what is shown is short and printable.
    private static string Shown(string key)
    {
        var shown = key.Length > 80 ? key[..80] + "…" : key;
        return string.Concat(shown.Select(c => char.IsControl(c) ? '?' : c));
    }
}
