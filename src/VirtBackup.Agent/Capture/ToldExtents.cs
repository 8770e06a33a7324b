using VirtBackup.Core;
using VirtBackup.Protocol.Common.V1;

namespace VirtBackup.Agent.Capture;

/// <summary>Changed extents that an operator supplied: checked, sorted and merged per disk.</summary>
internal static class ToldExtents
{
    private const int NumbersMax = 200_000;

    /// <exception cref="FaultException"><see cref="FaultReason.InvalidArgument"/>: not pairs of offset and length, too many, or a disk twice.</exception>
    public static IReadOnlyDictionary<string, IReadOnlyList<ByteRange>> Read(IEnumerable<ChangedExtents> told)
    {
        var result = new Dictionary<string, IReadOnlyList<ByteRange>>(StringComparer.Ordinal);
        foreach (var disk in told)
        {
            if (disk.OffsetLength.Count % 2 != 0 || disk.OffsetLength.Count > NumbersMax || !result.TryAdd(disk.DiskName, Merge(disk)))
            {
                throw Refusal(disk, "they must be pairs of offset and length, at most 100,000, each disk once");
            }
        }
        return result;
    }

    private static List<ByteRange> Merge(ChangedExtents disk)
    {
        var ranges = new List<ByteRange>(disk.OffsetLength.Count / 2);
        for (var i = 0; i + 1 < disk.OffsetLength.Count; i += 2)
        {
            var (offset, length) = (disk.OffsetLength[i], disk.OffsetLength[i + 1]);
            if (length == 0 || offset > Limits.DiskBytesMax || length > Limits.DiskBytesMax - offset)
            {
                throw Refusal(disk, $"'{offset} {length}' is not an extent");
            }
            ranges.Add(new ByteRange((long)offset, (long)length));
        }
        ranges.Sort((left, right) => left.Offset.CompareTo(right.Offset));
        var merged = new List<ByteRange>(ranges.Count);
        foreach (var range in ranges)
        {
            if (merged.Count > 0 && range.Offset <= merged[^1].End)
            {
                merged[^1] = merged[^1] with { Length = Math.Max(merged[^1].End, range.End) - merged[^1].Offset };
            }
            else
            {
                merged.Add(range);
            }
        }
        return merged;
    }

    private static FaultException Refusal(ChangedExtents disk, string why) =>
        new(FaultReason.InvalidArgument, $"The changed extents of disk '{disk.DiskName}' cannot be used: {why}.");
}
