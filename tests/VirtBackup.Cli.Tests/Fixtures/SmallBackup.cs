using System.Security.Cryptography;
using VirtBackup.Core;
using VirtBackup.Database;
using VirtBackup.Format.Manifests;
using VirtBackup.Format.Maps;
using VirtBackup.Format.Records;
using VirtBackup.Identity;
using VirtBackup.ObjectStores;
using VirtBackup.Repository;
using VirtBackup.Repository.Commits;
using VirtBackup.Repository.Index;
using VirtBackup.Sealing;

namespace VirtBackup.Cli.Tests.Fixtures;

/// <summary>Puts one really sealed and signed recovery point into a controller's repository.</summary>
internal static class SmallBackup
{
    public const int Chunks = 12;

    private static readonly MapShape Shape = MapShape.Of(Chunker.Fixed, 12);

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    public static async Task<Id16> CommitAsync(string data)
    {
        var home = new ControllerHome(data);
        using var escrow = EscrowKeys.Parse(home.ReadEscrow());
        using var store = LocalFolderStore.Open(home.ReadSettings().RepositoryPath);
        await using var index = SqliteDatabase.Open(home.IndexPath, RepositoryIndex.Schema, new SqliteOptions());
        await using var repository = await BackupRepository.OpenAsync(store, index, new RepositoryOptions(), TimeProvider.System, SystemEntropy.Instance, Token);
        using var signer = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var agent = await repository.PutAgentKeyAsync(signer.ExportSubjectPublicKeyInfo(), Token);
        using var vmKey = VmKey.Create(SystemEntropy.Instance);
        var (scope, vm) = (repository.Head.Uuid, Id16.Create(SystemEntropy.Instance));
        await repository.PutKeyAsync(KeySealing.Seal(vmKey, scope, vm, escrow.RestoreKey.Public, SystemEntropy.Instance).ToBytes(), Token);

        var geometry = new MapGeometry(Shape, Chunks << Shape.ChunkLog2);
        var (chunks, nodes) = (new List<byte[]>(), new List<byte[]>());
        var root = Seal(geometry, escrow, scope, vmKey, chunks, nodes);
        var head = new ManifestHead
        {
            Consistency = Consistency.Crash, Repository = scope, Vm = vm, Lineage = Id16.Create(SystemEntropy.Instance), Point = Id16.Create(SystemEntropy.Instance),
            Scope = scope, IdGeneration = 1, Generation = repository.Generation, Attempt = 1, Sequence = 1, CreatedMs = 1_900_000_000_000, AgentKeyId = agent, BodyEpochIndex = 0,
            Streams = [new ManifestStream(Id16.Create(SystemEntropy.Instance), StreamKind.Disk, geometry, root)], Epochs = [vmKey.EpochId],
        };
        var body = new ManifestBody { VmName = "web1", HypervisorKind = "qemu", AgentName = "host-1", Streams = [new StreamDescription { Id = head.Streams[0].Id.ToString(), Name = "vda", Format = "raw" }] };
        await using var session = repository.BeginIngest(scope, 1);
        await SendAsync(session, RecordKind.Data, chunks);
        await SendAsync(session, RecordKind.Map, nodes);
        await repository.CommitAsync(
            session, ManifestSealing.Seal(head, body, vmKey, signer, SystemEntropy.Instance),
            new CommitExpectation
            {
                Vm = vm, Lineage = head.Lineage, Point = head.Point, Generation = head.Generation, Attempt = 1, Sequence = 1, CreatedMs = head.CreatedMs, AgentKeyId = agent,
            },
            KeylessLeafInspector.Instance, Token);
        return head.Point;
    }

    private static Id32 Seal(MapGeometry geometry, EscrowKeys escrow, Id16 scope, VmKey vmKey, List<byte[]> chunks, List<byte[]> nodes)
    {
        using var idKey = escrow.Root.DeriveIdKey(scope, 1);
        using var keys = idKey.DeriveChunkKeys();
        using var sealer = new ChunkSealer(keys, SystemEntropy.Instance);
        var ids = new List<Id32>();
        for (var leaf = 0L; leaf < geometry.LeafCount; leaf++)
        {
            var place = geometry.PlaceOf(0, leaf);
            var entries = new MapEntry[place.FixedChunkCount];
            for (var i = 0; i < entries.Length; i++)
            {
                var plain = new byte[Shape.ChunkBytes];
                new Random((int)leaf * 1000 + i).NextBytes(plain);
                Assert.True(sealer.ComputeId(plain, out var id, out var secret));
                var record = new byte[ChunkSealer.RecordBytesMax(plain.Length)];
                chunks.Add(record[..sealer.Seal(plain, id, secret, record)]);
                entries[i] = new MapEntry(plain.Length, id, vmKey.Mask(id, secret), vmKey.EpochId);
            }
            ids.Add(Note(MapLeaf.Build(place, entries)!, nodes));
        }
        for (var level = 1; level <= geometry.Height; level++)
        {
            ids = [.. Enumerable.Range(0, (int)geometry.NodeCountOf(level)).Select(i => Note(
                MapInner.Build(geometry.PlaceOf(level, i), ids.Skip(i * MapShape.Radix).Take(geometry.PlaceOf(level, i).ChildCount).ToArray())!, nodes))];
        }
        return Assert.Single(ids);
    }

    private static Id32 Note(byte[] node, List<byte[]> nodes)
    {
        var id = NodeId.Compute(node);
        var header = RecordHeader.ForNode(id, node.Length);
        var record = new byte[header.RecordLength];
        header.Write(record);
        node.CopyTo(record, RecordHeader.Size);
        nodes.Add(record);
        return id;
    }

    private static async Task SendAsync(Repository.Ingest.IngestSession session, RecordKind kind, List<byte[]> records)
    {
        var lane = session.OpenLane(kind);
        foreach (var record in records)
        {
            await lane.AppendAsync(record, Token);
        }
        await lane.FlushAsync(Token);
    }
}
