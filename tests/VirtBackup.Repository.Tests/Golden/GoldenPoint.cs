using System.Security.Cryptography;
using VirtBackup.Core;
using VirtBackup.Format.Maps;
using VirtBackup.Format.Records;
using VirtBackup.Repository.Tests.Fixtures;

namespace VirtBackup.Repository.Tests.Golden;

/// <summary>A recovery point of the golden repositories, made from numbers alone, and its data records.</summary>
internal sealed record GoldenPoint(PointBytes Bytes, List<byte[]> Records)
{
    /// <summary>What every golden repository holds: never to be changed, or no old one can be compared any more.</summary>
    public static IReadOnlyList<GoldenPoint> All { get; } =
    [
        Fixed(1, 1, [1, 2, 3, 0, 4, 1, 5, 6, 7]),
        Fixed(1, 2, [1, 2, 8, 0, 4, 1, 5, 6, 9]),
        ContentDefined(2, 1, [(10, 300), (11, 5000), (0, 4096), (12, 1500), (10, 300)], [(13, 2000), (14, 16384 - 2000)], [(15, 700)]),
        ContentDefined(2, 2, [(10, 300), (11, 5000), (0, 4096), (12, 1500), (10, 300)], [(16, 2000), (14, 16384 - 2000)], [(15, 700)]),
    ];

    /// <summary>The point that was forgotten.</summary>
    public static GoldenPoint Forgotten => All[2];

    private static GoldenPoint Fixed(int machine, int number, int[] disk) => Make(
        machine, number, new MapShape(Chunker.Fixed, 12, 14), [.. disk.Chunk(4).Select(static span => span.Select(static content => (content, 4096)).ToArray())]);

    private static GoldenPoint ContentDefined(int machine, int number, params (int Content, int Length)[][] spans)
    {
        // Chunks fill their spans; only the last span is shorter.
        var last = spans[0].Sum(static chunk => chunk.Length);
        spans[0] = [.. spans[0], (17, 16384 - last)];
        return Make(machine, number, new MapShape(Chunker.ContentDefined, 12, 14), spans);
    }

    private static GoldenPoint Make(int seed, int number, MapShape shape, (int Content, int Length)[][] spans)
    {
        var machine = new Machine(World.Uuid, World.Scope, seed);
        var geometry = new MapGeometry(shape, spans.Sum(static span => span.Sum(static chunk => (long)chunk.Length)));
        var (nodes, leaves) = (new List<byte[]>(), new List<Id32>());
        for (var i = 0; i < spans.Length; i++)
        {
            leaves.Add(Note(nodes, MapLeaf.Build(geometry.PlaceOf(0, i), [.. spans[i].Select(chunk => chunk.Content == 0
                ? MapEntry.Zeros(chunk.Length)
                : new MapEntry(chunk.Length, IdOf(chunk), Machine.ChunkId(-chunk.Content), machine.Epoch(1)))])!));
        }
        var root = Note(nodes, MapInner.Build(geometry.Root, [.. leaves])!);
        var chunks = spans.SelectMany(static span => span).Where(static chunk => chunk.Content != 0).Distinct();
        return new GoldenPoint(new PointBytes(machine, number, [], geometry, root, nodes, [1], 0), [.. chunks.Select(Record)]);
    }

    private static Id32 IdOf((int Content, int Length) chunk) => Id32.Read(SHA256.HashData([.. BitConverter.GetBytes(chunk.Content), .. BitConverter.GetBytes(chunk.Length)]));

    /// <summary>One chunk is kept raw, the others are compressed to few bytes. The tag is a hash.</summary>
    private static byte[] Record((int Content, int Length) chunk)
    {
        var isRaw = chunk is { Content: 10, Length: 300 };
        var header = new RecordHeader(
            RecordKind.Data, isRaw ? RecordCodec.Raw : RecordCodec.Zstd, chunk.Length, isRaw ? chunk.Length + RecordHeader.SealingBytes : 90, IdOf(chunk), World.Scope, 1);
        var record = new byte[header.RecordLength];
        header.Write(record);
        for (var at = RecordHeader.Size; at < record.Length - RecordHeader.TagBytes; at++)
        {
            record[at] = (byte)((at * 31) + (chunk.Content * 7));
        }
        SHA256.HashData(record.AsSpan(0, record.Length - RecordHeader.TagBytes)).AsSpan(0, RecordHeader.TagBytes).CopyTo(record.AsSpan(record.Length - RecordHeader.TagBytes));
        return record;
    }

    private static Id32 Note(List<byte[]> nodes, byte[] node)
    {
        nodes.Add(Machine.NodeRecord(node));
        return NodeId.Compute(node);
    }
}
