using System.Diagnostics;
using VirtBackup.Core;
using VirtBackup.Format;
using VirtBackup.Format.Manifests;
using VirtBackup.Format.Records;

namespace VirtBackup.Proofs.CollectionScale.Generation;

/// <summary>What was generated and how fast.</summary>
/// <param name="Freed">By the deletion of each victim.</param>
/// <param name="RowsPerSecond">Of the plain sorted insert into the table of objects.</param>
internal sealed record GenerationReport(long Nodes, long Packs, IReadOnlyList<Freed> Freed, double TreeSeconds, double IndexSeconds, double RowsPerSecond);

/// <summary>Writes a repository of a history: all of its index, manifests and map nodes; of its data only what will be moved.</summary>
internal static class RepositoryGenerator
{
    public const string ObjectsFolder = "objects";
    public const string IndexFile = "index.db";

    public static GenerationReport Run(HistoryShape shape, ulong seed, string folder)
    {
        var clock = Stopwatch.StartNew();
        var layout = new PackLayout(seed, shape);
        var objects = Path.Combine(folder, ObjectsFolder);
        var references = new References(shape);
        var maps = new MapPackWriter(objects, references, layout.Packs + 1);
        var points = new List<Manifest>();
        Put(objects, ObjectKeys.Format, Fleet.Head().ToBytes());
        for (var machine = 0; machine < shape.Machines; machine++)
        {
            var (key, bytes) = Fleet.Key(machine);
            Put(objects, key, bytes);
            var history = new MachineHistory(shape, layout, machine, references, maps);
            var previous = Id32.Zero;
            for (var point = 0; point < shape.PointsPerMachine; point++)
            {
                var manifest = Fleet.Manifest(machine, point, shape.Disk, history.Take(point), previous);
                Put(objects, ObjectKeys.Manifest(manifest.Head.Vm, manifest.Head.Point), manifest.Bytes.Span);
                points.Add(manifest);
                previous = manifest.Hash;
            }
        }
        var data = WriteData(layout, objects);
        var treeSeconds = clock.Elapsed.TotalSeconds;
        var index = new IndexWriter(shape, layout, references);
        var rowsPerSecond = index.Write(Path.Combine(folder, IndexFile), data, maps.Packs, points);
        return new GenerationReport(
            references.Nodes.Count, layout.Packs + maps.Packs.Count, [.. Victim.Choose(shape).Select(references.FreedBy)], treeSeconds,
            clock.Elapsed.TotalSeconds - treeSeconds, rowsPerSecond);
    }

    /// <summary>The data packs whose bytes exist.</summary>
    private static Dictionary<long, RealPack> WriteData(PackLayout layout, string folder)
    {
        var real = new Dictionary<long, RealPack>();
        var builder = new PackBuilder(folder, RecordKind.Data);
        for (long number = 1; number <= layout.Packs; number++)
        {
            var pack = layout[number];
            if (!pack.IsReal)
            {
                continue;
            }
            foreach (var entry in layout.EntriesOf(pack))
            {
                var payload = new byte[entry.Header.SealedLength];
                new Random((int)(layout.Names.Chance(number, 40) & int.MaxValue) ^ (int)entry.Offset).NextBytes(payload);
                builder.Add(entry.Header, payload);
            }
            real.Add(number, builder.Publish(number, pack.Point));
        }
        return real;
    }

    private static void Put(string folder, string key, ReadOnlySpan<byte> bytes)
    {
        var path = Path.Combine(folder, key);
        Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        File.WriteAllBytes(path, bytes);
    }
}
