using System.Security.Cryptography;
using Google.Protobuf;
using VirtBackup.Core;
using VirtBackup.Format.Manifests;
using VirtBackup.Format.Maps;
using VirtBackup.Format.Records;
using VirtBackup.Protocol.Store.V1;
using VirtBackup.Sealing;
using RecordKind = VirtBackup.Protocol.Store.V1.RecordKind;

namespace VirtBackup.Controller.Tests.Fixtures;

/// <summary>Seals a small disk as an agent does: chunks of 4 KiB, really encrypted, and the map above them.</summary>
internal sealed class SealedBackup
{
    public static readonly Id16 Stream = Id16.Parse("00000000000000000000000000000005");

    private static readonly MapShape Shape = MapShape.Of(Chunker.Fixed, 12);

    private readonly TestAgent _agent;
    private readonly BeginSessionResponse _session;
    private readonly Id16 _point;
    private readonly long _attempt;

    public SealedBackup(TestAgent agent, BeginSessionResponse session, Id16 point, long attempt, byte[] disk, Func<MapEntry, MapEntry>? tamper = null)
    {
        (_agent, _session, _point, _attempt) = (agent, session, point, attempt);
        Geometry = new MapGeometry(Shape, disk.Length);
        using var idKey = new IdKey(Id16.Parse(session.ScopeId), (ushort)session.IdGeneration, session.IdKey.Span);
        using var keys = idKey.DeriveChunkKeys();
        using var sealer = new ChunkSealer(keys, SystemEntropy.Instance);
        var ids = new List<Id32>();
        for (var i = 0L; i < Geometry.LeafCount; i++)
        {
            var place = Geometry.PlaceOf(0, i);
            var entries = new MapEntry[place.FixedChunkCount];
            for (var j = 0; j < entries.Length; j++)
            {
                var start = (int)(Geometry.OffsetOf(0, i) + (j * Shape.ChunkBytes));
                var plain = disk.AsSpan(start, Math.Min(Shape.ChunkBytes, disk.Length - start));
                var entry = Seal(sealer, plain);
                entries[j] = tamper?.Invoke(entry) ?? entry;
            }
            ids.Add(Note(MapLeaf.Build(place, entries)));
        }
        for (var level = 1; level <= Geometry.Height; level++)
        {
            ids = [.. Enumerable.Range(0, (int)Geometry.NodeCountOf(level)).Select(i => Note(MapInner.Build(
                Geometry.PlaceOf(level, i), ids.Skip(i * MapShape.Radix).Take(Geometry.PlaceOf(level, i).ChildCount).ToArray())))];
        }
        Root = ids[0];
    }

    public VmKey VmKey { get; } = VmKey.Create(SystemEntropy.Instance);

    public MapGeometry Geometry { get; }

    public Id32 Root { get; }

    /// <summary>What its run audited.</summary>
    public AuditStatistics? Audit { get; init; }

    public List<byte[]> Chunks { get; } = [];

    public List<byte[]> Nodes { get; } = [];

    public byte[] KeyObject => KeySealing.Seal(
        VmKey, Id16.Parse(_session.RepositoryId), _agent.VmId, AgreementPublicKey.FromSubjectPublicKeyInfo(_session.RestorePublicKey.Span), SystemEntropy.Instance).ToBytes();

    public ManifestHead Head => new()
    {
        Consistency = Consistency.Crash,
        Repository = Id16.Parse(_session.RepositoryId),
        Vm = _agent.VmId,
        Lineage = Id16.Parse(_session.LineageId),
        Point = _point,
        Scope = Id16.Parse(_session.ScopeId),
        IdGeneration = (ushort)_session.IdGeneration,
        Generation = (long)_session.Generation,
        Attempt = _attempt,
        Sequence = (long)_session.Sequence,
        CreatedMs = _session.CreatedMs,
        PreviousManifest = _session.PreviousManifest.IsEmpty ? Id32.Zero : Id32.Read(_session.PreviousManifest.Span),
        BaseManifest = _session.BaseManifest.IsEmpty ? Id32.Zero : Id32.Read(_session.BaseManifest.Span),
        AgentKeyId = _agent.SigningKeyId,
        BodyEpochIndex = 0,
        Streams = [new ManifestStream(Stream, StreamKind.Disk, Geometry, Root)],
        Epochs = [VmKey.EpochId],
    };

    public byte[] Manifest(ManifestHead? head = null, ECDsa? signer = null) => ManifestSealing.Seal(
        head ?? Head,
        new ManifestBody
        {
            VmName = _agent.VmName, HypervisorKind = "files", AgentName = _agent.Name, Audit = Audit,
            Streams = [new StreamDescription { Id = Stream.ToString(), Name = "vda", Format = "raw", ReadReason = "no-base" }],
        },
        VmKey, signer ?? _agent.SigningKey, SystemEntropy.Instance);

    /// <summary>Key, data, map: everything but the commit.</summary>
    public async Task UploadAsync()
    {
        await _agent.World.Role.Store.PutKeyAsync(_agent.Caller, new PutKeyRequest { SessionId = _session.SessionId, KeyObject = ByteString.CopyFrom(KeyObject) }, World.Token);
        await SendAsync(0, RecordKind.Data, [.. Chunks.SelectMany(chunk => chunk)]);
        await SendAsync(1, RecordKind.Map, [.. Nodes.SelectMany(node => node)]);
    }

    /// <summary>Sends a lane's bytes from its start and returns the last state that came back.</summary>
    public async Task<LaneState> SendAsync(uint lane, RecordKind kind, byte[] bytes, int sliceBytes = 10_000)
    {
        var duplex = new MemoryDuplex<UploadRecordsRequest, UploadRecordsResponse>();
        var serving = _agent.World.Role.Store.UploadRecordsAsync(_agent.Caller, duplex, World.Token);
        await duplex.Up.WriteAsync(new UploadRecordsRequest { SessionId = _session.SessionId, Lane = lane, Kind = kind }, World.Token);
        for (var at = 0; at < bytes.Length && !serving.IsCompleted; at += sliceBytes)
        {
            var data = ByteString.CopyFrom(bytes.AsSpan(at, Math.Min(sliceBytes, bytes.Length - at)));
            // A controller that has refused the stream reads no more of it.
            await Task.WhenAny(duplex.Up.WriteAsync(new UploadRecordsRequest { Offset = (ulong)at, Data = data }, World.Token).AsTask(), serving);
        }
        duplex.Up.TryComplete();
        await serving;
        LaneState? last = null;
        while (duplex.Down.TryRead(out var response))
        {
            last = response.State;
        }
        return last!;
    }

    /// <param name="manifest">Its own when not given.</param>
    /// <param name="call">Cancelled when the agent is gone.</param>
    public async Task<CommitRecoveryPointResponse> CommitAsync(byte[]? manifest = null, CancellationToken? call = null) => await _agent.World.Role.Store.CommitRecoveryPointAsync(
        _agent.Caller, new CommitRecoveryPointRequest { SessionId = _session.SessionId, Manifest = ByteString.CopyFrom(manifest ?? Manifest()) }, call ?? World.Token);

    private MapEntry Seal(ChunkSealer sealer, ReadOnlySpan<byte> plain)
    {
        if (!sealer.ComputeId(plain, out var id, out var secret))
        {
            return MapEntry.Zeros(plain.Length);
        }
        var record = new byte[ChunkSealer.RecordBytesMax(plain.Length)];
        Chunks.Add(record[..sealer.Seal(plain, id, secret, record)]);
        return new MapEntry(plain.Length, id, VmKey.Mask(id, secret), VmKey.EpochId);
    }

    private Id32 Note(byte[]? node)
    {
        if (node is null)
        {
            return Id32.Zero;
        }
        var id = NodeId.Compute(node);
        var header = RecordHeader.ForNode(id, node.Length);
        var record = new byte[header.RecordLength];
        header.Write(record);
        node.CopyTo(record, RecordHeader.Size);
        Nodes.Add(record);
        return id;
    }
}
