using VirtBackup.Core;
using VirtBackup.Format;
using VirtBackup.Proofs.Installation;
using VirtBackup.Repository.Verification;

namespace VirtBackup.Proofs.FlipBytes;

/// <summary>A set of bytes of points' streams.</summary>
internal sealed class Losses
{
    private readonly SortedDictionary<(Id16 Point, Id16 Stream), List<ByteRange>> _ranges = [];

    public IEnumerable<Id16> Points => _ranges.Keys.Select(key => key.Point).Distinct();

    public void Add(Id16 point, Id16 stream, ByteRange range)
    {
        if (!_ranges.TryGetValue((point, stream), out var ranges))
        {
            _ranges.Add((point, stream), ranges = []);
        }
        ranges.Add(range);
    }

    public static Losses Of(IEnumerable<Damage> damages)
    {
        var losses = new Losses();
        foreach (var range in damages.SelectMany(damage => damage.Affected))
        {
            losses.Add(range.Point, range.Stream, range.Range);
        }
        return losses;
    }

    /// <summary>
    /// What one damaged region takes away, by the maps alone. Without keys nobody can tell which bytes of a data pack
    /// have changed, so all of its chunks count; with keys exactly the chunk.
    /// </summary>
    public static Losses Expected(Census census, Region region, bool withKeys)
    {
        var losses = new Losses();
        foreach (var (point, manifest) in census.Points)
        {
            var (entries, nodes) = census.Walk(manifest);
            foreach (var placed in entries.Where(placed => !placed.Entry.IsZero))
            {
                var copy = census.Find(Format.Records.RecordKind.Data, placed.Entry.Id, manifest.Head.Scope).Single();
                var isLost = region.Kind switch
                {
                    RegionKind.DataHeader or RegionKind.DataNonce or RegionKind.DataCiphertext or RegionKind.DataTag =>
                        copy.PackKey == region.Key && (!withKeys || copy.Entry.Offset == region.Record!.Value.Offset),
                    RegionKind.DataFooter or RegionKind.DataTrailer => copy.PackKey == region.Key && !withKeys,
                    _ => false,
                };
                if (isLost)
                {
                    losses.Add(point, placed.Stream, new ByteRange(placed.Offset, placed.Entry.Length));
                }
            }
            if (region.Kind is RegionKind.NodeHeader or RegionKind.Node)
            {
                foreach (var node in nodes.Where(node => node.Id == region.Record!.Value.Header.Id))
                {
                    losses.Add(point, node.Stream, node.Range);
                }
            }
            var isWhole = region.Kind switch
            {
                RegionKind.KeyObject => ObjectKeys.TryParseVmKey(region.Key, out var vm, out var epoch, out _) && vm == manifest.Head.Vm && manifest.Head.Epochs.Contains(epoch),
                RegionKind.ManifestForged => region.Key == ObjectKeys.Manifest(manifest.Head.Vm, point),
                _ => false,
            };
            foreach (var stream in isWhole ? manifest.Head.Streams : [])
            {
                losses.Add(point, stream.Id, new ByteRange(0, stream.Geometry.StreamLength));
            }
        }
        return losses;
    }

    public bool Overlaps(Id16 point, RestoreWrite write) =>
        _ranges.TryGetValue((point, write.Disk), out var ranges) && ranges.Exists(range => range.Offset < write.Offset + write.Bytes.Length && write.Offset < range.End);

    /// <summary>The same for the same bytes, however they were cut into ranges.</summary>
    public override string ToString()
    {
        var parts = new List<string>();
        foreach (var ((point, stream), ranges) in _ranges)
        {
            var joined = new List<ByteRange>();
            foreach (var range in ranges.OrderBy(range => range.Offset))
            {
                if (joined.Count > 0 && range.Offset <= joined[^1].End)
                {
                    joined[^1] = joined[^1] with { Length = Math.Max(joined[^1].End, range.End) - joined[^1].Offset };
                }
                else
                {
                    joined.Add(range);
                }
            }
            parts.Add($"{point}/{stream}: {string.Join(" ", joined.Select(range => $"{range.Offset}+{range.Length}"))}");
        }
        return parts.Count == 0 ? "nothing" : string.Join("; ", parts);
    }
}
