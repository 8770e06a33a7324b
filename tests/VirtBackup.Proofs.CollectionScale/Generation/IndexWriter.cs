using System.Diagnostics;
using System.Security.Cryptography;
using VirtBackup.Core;
using VirtBackup.Database;
using VirtBackup.Format.Manifests;
using VirtBackup.Format.Records;
using VirtBackup.Repository.Index;

namespace VirtBackup.Proofs.CollectionScale.Generation;

/// <summary>Fills an index of the product's schema, every table in the order of its keys.</summary>
internal sealed class IndexWriter(HistoryShape shape, PackLayout layout, References references)
{
    private const long FleetScope = 1;
    private const long NoScope = 2;
    private static readonly byte[] NoId16 = new byte[Id16.Size];
    private static readonly byte[] NoId32 = new byte[Id32.Size];

    /// <returns>Rows of objects per second.</returns>
    public double Write(string path, Dictionary<long, RealPack> data, IReadOnlyList<RealPack> maps, IReadOnlyList<Manifest> points)
    {
        SqliteDatabase.Open(path, RepositoryIndex.Schema).DisposeAsync().AsTask().GetAwaiter().GetResult();
        using var load = new BulkLoad(path);
        load.Insert("owner(only_row, repository, generation, nonce, rebuilding)", row => row(1L, Fleet.Repository.ToArray(), 0L, NoId16, 0L));
        load.Insert("scope(number, id)", row =>
        {
            row(FleetScope, Fleet.Scope.ToArray());
            row(NoScope, NoId16);
        });
        load.Insert("audit(only_row, finished_ms, problem, excess)", row => row(1L, Fleet.Today(shape).ToUnixTimeMilliseconds(), null, NoId32));
        load.Insert("epoch_set(number, hash, members)", row =>
        {
            for (var machine = 0; machine < shape.Machines; machine++)
            {
                row(machine + 1L, SHA256.HashData(Fleet.Epoch(machine).ToArray()), Fleet.Epoch(machine).ToArray());
            }
        });
        load.Insert(
            "point(point, vm, lineage, scope, sequence, created_ms, generation, attempt, manifest, manifest_bytes, previous_manifest, base_manifest, agent_key, stream_bytes, state, origin, roots, forgotten_ms)",
            row => points.OrderBy(static point => point.Head.Point).ToList().ForEach(point => AddPoint(row, point)));
        load.Insert(
            "pack(number, hash, kind, records, bytes, raw_bytes, state, state_ms, generation, created_ms, dead_records, dead_bytes)",
            row => AddPacks(row, data, maps));
        var clock = Stopwatch.StartNew();
        references.Nodes.Sort(static (left, right) => left.Id.CompareTo(right.Id));
        AddObjects(load);
        var rowsPerSecond = (shape.Chunks + references.Nodes.Count) / clock.Elapsed.TotalSeconds;
        load.Insert("complete_node(id, scope, length, level, shape, epochs)", AddCompleteNodes);
        load.Execute($"UPDATE numbering SET next = {shape.Chunks + references.Nodes.Count + 1}");
        return rowsPerSecond;
    }

    private static void AddPoint(BulkLoad.Row row, Manifest manifest)
    {
        var head = manifest.Head;
        row(
            head.Point.ToArray(), head.Vm.ToArray(), head.Lineage.ToArray(), head.Scope.ToArray(), head.Sequence, head.CreatedMs, head.Generation, head.Attempt,
            manifest.Hash.ToArray(), (long)manifest.Bytes.Length, head.PreviousManifest.ToArray(), head.BaseManifest.ToArray(), head.AgentKeyId.ToArray(),
            head.Streams.Sum(static stream => stream.Geometry.StreamLength), 0L, head.Repository.ToArray(), head.Streams[0].Root.ToArray(), 0L);
    }

    private void AddPacks(BulkLoad.Row row, Dictionary<long, RealPack> data, IReadOnlyList<RealPack> maps)
    {
        for (long number = 1; number <= layout.Packs; number++)
        {
            var pack = layout[number];
            var created = Fleet.DayOf(pack.Point).ToUnixTimeMilliseconds();
            var hash = data.TryGetValue(number, out var real) ? real.Hash : layout.HashOf(number);
            long records = pack.Count + pack.Dead;
            row(
                number, hash.ToArray(), (long)RecordKind.Data, records, layout.BytesOf(pack), records * PackLayout.RawLength, 0L, created, 0L, created,
                (long)pack.Dead, layout.DeadBytesOf(pack));
        }
        foreach (var pack in maps)
        {
            var created = Fleet.DayOf(pack.Point).ToUnixTimeMilliseconds();
            row(pack.Number, pack.Hash.ToArray(), (long)pack.Kind, (long)pack.Records, pack.Bytes, pack.RawBytes, 0L, created, 0L, created, 0L, 0L);
        }
    }

    private void AddObjects(BulkLoad load)
    {
        using var rows = load.PrepareObjects();
        var next = 0;
        for (long rank = 0; rank < shape.Chunks; rank++)
        {
            var chunk = layout.Names.ChunkAt(rank);
            var id = layout.Names.IdOf(chunk, rank);
            for (; next < references.Nodes.Count && references.Nodes[next].Id < id; next++)
            {
                AddNode(rows, next);
            }
            var (pack, position, length) = layout.PlaceOf(chunk);
            rows.Add(
                id, RecordKind.Data, FleetScope, pack, position, length, PackLayout.RawLength, RecordCodec.Zstd, PackLayout.IdGeneration, chunk + 1,
                references.CountOf(chunk), holds: false);
        }
        for (; next < references.Nodes.Count; next++)
        {
            AddNode(rows, next);
        }
    }

    private void AddNode(BulkLoad.ObjectRows rows, int at)
    {
        var node = references.Nodes[at];
        rows.Add(
            node.Id, RecordKind.Map, NoScope, node.Pack, node.Position, node.Length, node.Length, RecordCodec.Raw, 0, shape.Chunks + at + 1, node.Count, holds: true);
    }

    private void AddCompleteNodes(BulkLoad.Row row)
    {
        var map = HistoryShape.MapShape;
        var form = ((long)map.Chunker << 16) | ((long)map.ChunkLog2 << 8) | map.SpanLog2;
        foreach (var node in references.Nodes)
        {
            row(node.Id.ToArray(), FleetScope, node.Covered, (long)node.Level, form, node.Machine + 1L);
        }
    }
}
