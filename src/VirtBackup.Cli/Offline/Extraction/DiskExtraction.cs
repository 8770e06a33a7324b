using VirtBackup.Core;
using VirtBackup.Format.Manifests;
using VirtBackup.Format.Maps;
using VirtBackup.Format.Records;
using VirtBackup.Repository.Reading;
using VirtBackup.Sealing;

namespace VirtBackup.Cli.Offline.Extraction;

/// <summary>
/// Writes one stream of a recovery point into a file: leaf by leaf, in pieces of the map that are read together; each chunk
/// is proven by its name before it is written. Holds one window of the map and one chunk for each worker.
/// </summary>
internal sealed class DiskExtraction(RecoveryPointReader reader, ManifestStream stream, ChunkKeyRing ring, IReadOnlyDictionary<Id16, VmKey> vmKeys, Action<int> written)
{
    private const int ChunksPerWindow = 1024;

    private readonly Dictionary<Id32, Places> _wanted = [];
    private readonly List<ByteRange> _ranges = [];
    private int _chunks;

    public async Task RunAsync(ExtractedDisk target, CancellationToken cancellationToken)
    {
        using var opener = new ChunkOpener(ring);
        if (!stream.Root.IsZero)
        {
            await DescendAsync(stream.Root, stream.Geometry.Height, 0, opener, target, cancellationToken);
        }
        await FetchAsync(opener, target, cancellationToken);
    }

    private async Task DescendAsync(Id32 id, int level, long index, ChunkOpener opener, ExtractedDisk target, CancellationToken cancellationToken)
    {
        var node = await ReadNodeAsync(id, cancellationToken);
        var place = stream.Geometry.PlaceOf(level, index);
        if (level == 0)
        {
            Add(MapLeaf.Parse(node, place), stream.Geometry.OffsetOf(0, index));
            if (_chunks >= ChunksPerWindow)
            {
                await FetchAsync(opener, target, cancellationToken);
            }
            return;
        }
        var inner = MapInner.Parse(node, place);
        for (var i = 0; i < inner.Count; i++)
        {
            if (!inner[i].IsZero)
            {
                await DescendAsync(inner[i], level - 1, (index * MapShape.Radix) + i, opener, target, cancellationToken);
            }
        }
    }

    private async Task<byte[]> ReadNodeAsync(Id32 id, CancellationToken cancellationToken)
    {
        using var record = new MemoryStream();
        await foreach (var slice in reader.ReadNodesAsync([id], cancellationToken))
        {
            using (slice)
            {
                record.Write(slice.Memory.Span);
            }
        }
        return record.ToArray()[RecordHeader.Size..];
    }

    private void Add(MapLeaf leaf, long offset)
    {
        for (var i = 0; i < leaf.Count; i++)
        {
            var entry = leaf[i];
            if (!entry.IsZero)
            {
                if (!_wanted.TryGetValue(entry.Id, out var places))
                {
                    if (!vmKeys.TryGetValue(entry.EpochId, out var key))
                    {
                        throw FaultException.Corrupt($"The map names key epoch {entry.EpochId}, which the recovery point does not list.");
                    }
                    _wanted.Add(entry.Id, places = new Places(key.Unmask(entry.Id, entry.MaskedSecret), entry.Length, []));
                }
                places.Offsets.Add(offset);
                if (_ranges is [.., var last] && last.End == offset)
                {
                    _ranges[^1] = new ByteRange(last.Offset, last.Length + entry.Length);
                }
                else
                {
                    _ranges.Add(new ByteRange(offset, entry.Length));
                }
                _chunks++;
            }
            offset += entry.Length;
        }
    }

    private async Task FetchAsync(ChunkOpener opener, ExtractedDisk target, CancellationToken cancellationToken)
    {
        if (_chunks == 0)
        {
            return;
        }
        var record = new byte[RecordHeader.Size + Limits.SealedBytesMax];
        var plain = new byte[Limits.ChunkBytesMax];
        var fill = 0;
        await foreach (var slice in reader.ReadRecordsAsync(stream.Id, _ranges, cancellationToken))
        {
            using (slice)
            {
                for (var rest = slice.Memory; rest.Length > 0;)
                {
                    var need = (fill < RecordHeader.Size ? RecordHeader.Size : RecordHeader.Parse(record).RecordLength) - fill;
                    var take = Math.Min(need, rest.Length);
                    rest.Span[..take].CopyTo(record.AsSpan(fill));
                    rest = rest[take..];
                    fill += take;
                    if (fill >= RecordHeader.Size && fill == RecordHeader.Parse(record).RecordLength)
                    {
                        await WriteAsync(record.AsMemory(0, fill), plain, opener, target, cancellationToken);
                        fill = 0;
                    }
                }
            }
        }
        if (_wanted.Count > 0)
        {
            throw FaultException.Corrupt($"{_wanted.Count} chunks of disk {target.Path} are not in the repository.");
        }
        _ranges.Clear();
        _chunks = 0;
    }

    private async Task WriteAsync(ReadOnlyMemory<byte> record, byte[] plain, ChunkOpener opener, ExtractedDisk target, CancellationToken cancellationToken)
    {
        var id = RecordHeader.Parse(record.Span).Id;
        if (!_wanted.Remove(id, out var places))
        {
            return;
        }
        var bytes = plain.AsMemory(0, places.Length);
        opener.Open(record.Span, id, places.Secret, bytes.Span);
        foreach (var offset in places.Offsets)
        {
            await target.WriteAsync(offset, bytes, cancellationToken);
            written(places.Length);
        }
    }

    private sealed record Places(ChunkSecret Secret, int Length, List<long> Offsets);
}
