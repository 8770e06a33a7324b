using System.Runtime.InteropServices;
using System.Security.Cryptography;
using VirtBackup.Core;
using VirtBackup.Format;
using VirtBackup.Format.Maps;
using VirtBackup.Format.Packs;
using VirtBackup.Format.Records;

namespace VirtBackup.Proofs.CollectionScale.Generation;

/// <summary>A pack with bytes, as the index has to know it.</summary>
internal readonly record struct RealPack(long Number, Id32 Hash, RecordKind Kind, int Records, long Bytes, long RawBytes, int Point);

/// <summary>Writes packs of map nodes, which all exist.</summary>
internal sealed class MapPackWriter(string folder, References references, long firstNumber)
{
    private readonly PackBuilder _builder = new(folder, RecordKind.Map);
    private int _point;

    public List<RealPack> Packs { get; } = [];

    /// <summary>The node's place in <see cref="References.Nodes"/>.</summary>
    public int Add(byte[] node, MapPlace place, short machine, short point)
    {
        _point = point;
        var id = NodeId.Compute(node);
        var position = _builder.Add(RecordHeader.ForNode(id, node.Length), node);
        references.Nodes.Add(new GeneratedNode
        {
            Id = id, Covered = place.Length, Level = (byte)place.Level, Pack = firstNumber + Packs.Count, Position = position, Length = node.Length,
            Machine = machine, Point = point,
        });
        if (_builder.Bytes >= PackLayout.PackBytesTarget)
        {
            Close();
        }
        return references.Nodes.Count - 1;
    }

    /// <summary>Ends the pack: a session leaves none open.</summary>
    public void Close()
    {
        if (_builder.Bytes > 0)
        {
            Packs.Add(_builder.Publish(firstNumber + Packs.Count, _point));
        }
    }
}

/// <summary>Puts records into one pack after the other.</summary>
internal sealed class PackBuilder(string folder, RecordKind kind)
{
    private readonly MemoryStream _records = new();
    private readonly List<PackEntry> _entries = [];
    private readonly byte[] _header = new byte[RecordHeader.Size];

    public long Bytes => _records.Length;

    /// <summary>Where the record lies.</summary>
    public uint Add(RecordHeader header, ReadOnlySpan<byte> payload)
    {
        var position = checked((uint)_records.Length);
        header.Write(_header);
        _records.Write(_header);
        _records.Write(payload);
        _entries.Add(new PackEntry(header, position));
        return position;
    }

    public RealPack Publish(long number, int point)
    {
        var entries = CollectionsMarshal.AsSpan(_entries);
        long raw = 0;
        foreach (ref readonly var entry in entries)
        {
            raw += entry.Header.RawLength;
        }
        _records.Write(PackFooter.Build(kind, entries, _records.Length));
        var bytes = _records.GetBuffer().AsSpan(0, (int)_records.Length);
        var pack = new RealPack(number, Id32.Read(SHA256.HashData(bytes)), kind, entries.Length, bytes.Length, raw, point);
        var path = Path.Combine(folder, ObjectKeys.Pack(pack.Hash));
        Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        File.WriteAllBytes(path, bytes);
        _records.SetLength(0);
        _entries.Clear();
        return pack;
    }
}
