using System.Security.Cryptography;
using VirtBackup.Core;
using VirtBackup.Format.Keys;
using VirtBackup.Format.Manifests;
using VirtBackup.Format.Maps;
using VirtBackup.Format.Records;
using VirtBackup.Repository.Commits;

namespace VirtBackup.Repository.Tests.Fixtures;

/// <summary>
/// Makes the bytes of recovery points of one machine. A disk is a list of numbers: each names the content of a 4 KiB
/// chunk, 0 is a run of zeros. Records are not really encrypted; their tag is a hash of their bytes.
/// </summary>
internal sealed class Machine(Id16 repository, Id16 scope, int seed)
{
    public static readonly MapShape Shape = new(Chunker.Fixed, 12, 14);
    public static readonly Id16 Stream = Id16.Parse("00000000000000000000000000000005");

    public Id16 Vm { get; } = NameOf("vm", seed);

    public Id16 Lineage { get; } = NameOf("lineage", seed);

    public Id16 Scope => scope;

    public static Id16 NameOf(string kind, int number) => Id16.Read(SHA256.HashData(System.Text.Encoding.UTF8.GetBytes($"{kind} {number}")));

    /// <summary>The public key of the agent that signs all points.</summary>
    public static byte[] AgentKey => "agent 1"u8.ToArray();

    public static Id32 ChunkId(int content) => content == 0 ? Id32.Zero : Id32.Read(SHA256.HashData(BitConverter.GetBytes(content)));

    public Id16 Epoch(int number) => NameOf($"epoch of {seed}", number);

    public byte[] Key(int epoch) => new KeyObject
    {
        Repository = repository, Vm = Vm, Epoch = Epoch(epoch), Recipient = NameOf("recipient", 1),
        Ephemeral = new byte[] { 4 }.Concat(new byte[64]).ToArray(), Sealed = new byte[60],
    }.ToBytes();

    public byte[] DataRecord(int content, int length = 4096, Id16? otherScope = null)
    {
        var header = new RecordHeader(RecordKind.Data, RecordCodec.Raw, length, length + 28, ChunkId(content), otherScope ?? scope, 1);
        var record = new byte[header.RecordLength];
        header.Write(record);
        new Random(content).NextBytes(record.AsSpan(RecordHeader.Size, length + 12));
        SHA256.HashData(record.AsSpan(0, record.Length - 16)).AsSpan(0, 16).CopyTo(record.AsSpan(record.Length - 16));
        return record;
    }

    public static byte[] NodeRecord(byte[] node)
    {
        var header = RecordHeader.ForNode(NodeId.Compute(node), node.Length);
        var record = new byte[header.RecordLength];
        header.Write(record);
        node.CopyTo(record, RecordHeader.Size);
        return record;
    }

    /// <param name="number">The point's number in its lineage.</param>
    /// <param name="disk">Its chunks.</param>
    /// <param name="epochs">The epoch of each chunk; epoch 1 for all by default.</param>
    /// <param name="tail">Bytes missing at the end of the last chunk.</param>
    public PointBytes Point(int number, int[] disk, Func<int, int>? epochs = null, int tail = 0)
    {
        epochs ??= _ => 1;
        var geometry = new MapGeometry(Shape, ((long)disk.Length << Shape.ChunkLog2) - tail);
        var records = new List<byte[]>();
        var ids = new List<Id32>();
        for (var i = 0; i < geometry.LeafCount; i++)
        {
            var place = geometry.PlaceOf(0, i);
            var entries = new MapEntry[place.FixedChunkCount];
            for (var j = 0; j < entries.Length; j++)
            {
                var at = (i * 4) + j;
                var length = (int)Math.Min(4096, place.Length - (j * 4096));
                entries[j] = disk[at] == 0
                    ? MapEntry.Zeros(length)
                    : new MapEntry(length, ChunkId(disk[at]), ChunkId(-disk[at]), Epoch(epochs(at)));
            }
            ids.Add(Note(MapLeaf.Build(place, entries)));
        }
        for (var level = 1; level <= geometry.Height; level++)
        {
            var parents = new List<Id32>();
            for (var i = 0; i < geometry.NodeCountOf(level); i++)
            {
                var place = geometry.PlaceOf(level, i);
                parents.Add(Note(MapInner.Build(place, ids.Skip(i * 64).Take(place.ChildCount).ToArray())));
            }
            ids = parents;
        }
        var used = disk.Select((content, at) => (content, at)).Where(chunk => chunk.content != 0).Select(chunk => epochs(chunk.at)).Append(1).Distinct();
        return new PointBytes(this, number, disk, geometry, ids[0], records, [.. used.Order()], tail);

        Id32 Note(byte[]? node)
        {
            if (node is null)
            {
                return Id32.Zero;
            }
            records.Add(NodeRecord(node));
            return NodeId.Compute(node);
        }
    }

    public ManifestHead Head(PointBytes point) => new()
    {
        Consistency = Consistency.Crash, Repository = repository, Vm = Vm, Lineage = Lineage, Point = point.Id, Scope = scope, IdGeneration = 1,
        Generation = 1, Attempt = 1, Sequence = point.Number, CreatedMs = 1000 + point.Number, AgentKeyId = NameOf("agent", 1),
        Streams = [new ManifestStream(Stream, StreamKind.Disk, point.Geometry, point.Root)],
        Epochs = [.. point.Epochs.Select(Epoch).Order()], BodyEpochIndex = 0,
    };

    /// <summary>Signs with a hash in place of a key.</summary>
    public static byte[] Seal(ManifestHead head, int salt = 0)
    {
        var body = new byte[64];
        new Random(salt).NextBytes(body);
        var headBytes = head.ToBytes();
        return Manifest.Assemble(headBytes, body, Signature(Manifest.SignedBytesOf(headBytes, body)));
    }

    public static byte[] Signature(byte[] message) => [.. SHA256.HashData(message), .. SHA256.HashData(message)];
}

/// <summary>The bytes that make up one recovery point.</summary>
internal sealed record PointBytes(
    Machine Machine, int Number, int[] Disk, MapGeometry Geometry, Id32 Root, List<byte[]> Nodes, int[] Epochs, int Tail)
{
    public Id16 Id { get; } = Machine.NameOf($"point of {Machine.Vm}", Number);

    public IEnumerable<byte[]> Chunks => Disk.Select((content, at) => (content, at)).Where(chunk => chunk.content != 0).DistinctBy(chunk => chunk.content)
        .Select(chunk => Machine.DataRecord(chunk.content, chunk.at == Disk.Length - 1 ? 4096 - Tail : 4096));

    public ManifestHead Head => Machine.Head(this);

    public byte[] Manifest => Machine.Seal(Head);

    public CommitExpectation Expectation => new()
    {
        Vm = Head.Vm, Lineage = Head.Lineage, Point = Head.Point, Generation = Head.Generation, Attempt = Head.Attempt, Sequence = Head.Sequence,
        CreatedMs = Head.CreatedMs, AgentKeyId = Head.AgentKeyId,
    };
}
