using System.Runtime.CompilerServices;
using System.Security.Cryptography;
using Google.Protobuf;
using VirtBackup.Core;
using VirtBackup.Format.Keys;
using VirtBackup.Format.Manifests;
using VirtBackup.Format.Maps;
using VirtBackup.Format.Records;
using VirtBackup.Protocol.Store.V1;
using VirtBackup.Protocol.Transport;
using VirtBackup.Sealing;

namespace VirtBackup.Agent.Tests.Fakes;

/// <summary>
/// A little controller in memory: sessions and lanes with durable offsets, a commit that checks the whole tree, and reads.
/// It is as strict as the real one, and fails as <see cref="Faults"/> say.
/// </summary>
internal sealed class FakeStore : IStoreTransport, IDisposable
{
    private readonly IEntropy _entropy;
    private readonly byte[] _agentKey;
    private readonly AgreementKey _restoreKey;
    private readonly IdKey _idKey;
    private readonly Id16 _repository;
    private readonly Id16 _lineage;
    private readonly Dictionary<string, FakeSession> _sessions = [];
    private readonly Dictionary<Id16, KeyObject> _keys = [];
    private readonly Dictionary<(Id16 Vm, Id16 Epoch, Id16 Recipient), byte[]> _keyObjects = [];
    private readonly List<Manifest> _points = [];
    private int _sessionCount;

    public FakeStore(IEntropy entropy, ECDsa signer)
    {
        _entropy = entropy;
        _agentKey = signer.ExportSubjectPublicKeyInfo();
        _restoreKey = AgreementKey.Create(entropy);
        _repository = Id16.Create(entropy);
        _lineage = Id16.Create(entropy);
        using var root = RootSecret.Create(entropy);
        _idKey = root.DeriveIdKey(_repository, 1);
    }

    public Lock Gate { get; } = new();
    public FakeFaults Faults { get; } = new();
    public Dictionary<Id32, byte[]> Chunks { get; } = [];
    public Dictionary<Id32, byte[]> Nodes { get; } = [];
    public IReadOnlyList<Manifest> Points => _points;
    public int SessionsOpen => _sessions.Count;
    public int SessionsBegun => _sessionCount;
    public int Abandoned { get; private set; }
    public int KeysPut { get; private set; }
    public int KeyObjects => _keyObjects.Count;

    /// <summary>Data records that became durable, in order, with repetitions.</summary>
    public List<Id32> DataRecords { get; } = [];
    public List<Id32> NodeRecords { get; } = [];

    public async ValueTask<FindRecoveryPointsResponse> FindRecoveryPointsAsync(FindRecoveryPointsRequest request, CancellationToken cancellationToken)
    {
        await EnterAsync(cancellationToken);
        var response = new FindRecoveryPointsResponse();
        lock (Gate)
        {
            response.CommittedPointIds.AddRange(request.PointIds.Where(id => !Faults.IsUnaware && _points.Any(point => point.Head.Point.ToString() == id)));
        }
        return response;
    }

    public async ValueTask<BeginSessionResponse> BeginSessionAsync(BeginSessionRequest request, CancellationToken cancellationToken)
    {
        await EnterAsync(cancellationToken);
        lock (Gate)
        {
            if (request.ResumeSessionId.Length == 0 && _points.Any(point => point.Head.Point.ToString() == request.PointId))
            {
                throw new FaultException(FaultReason.AlreadyExists, "The recovery point exists.");
            }
            FakeSession session;
            if (request.ResumeSessionId.Length > 0)
            {
                session = Require(request.ResumeSessionId);
                session.Rewind();
            }
            else if (_sessions.Values.FirstOrDefault(known => known.Request.RequestId == request.RequestId) is { } known)
            {
                session = known;
            }
            else
            {
                session = new FakeSession($"s{++_sessionCount}", request, this);
                _sessions.Add(session.Id, session);
            }
            var response = Describe(session);
            Faults.OnBegun?.Invoke();
            return response;
        }
    }

    public async ValueTask<PutKeyResponse> PutKeyAsync(PutKeyRequest request, CancellationToken cancellationToken)
    {
        await EnterAsync(cancellationToken);
        lock (Gate)
        {
            Require(request.SessionId);
            var key = KeyObject.Parse(request.KeyObject.Span);
            var bytes = request.KeyObject.ToByteArray();
            if (!_keyObjects.TryAdd((key.Vm, key.Epoch, key.Recipient), bytes) && !bytes.AsSpan().SequenceEqual(_keyObjects[(key.Vm, key.Epoch, key.Recipient)]))
            {
                throw new FaultException(FaultReason.AlreadyExists, "Another key object has that name.");
            }
            _keys[key.Epoch] = key;
            KeysPut++;
        }
        return new PutKeyResponse();
    }

    public async ValueTask<ProbeChunksResponse> ProbeChunksAsync(ProbeChunksRequest request, CancellationToken cancellationToken)
    {
        await EnterAsync(cancellationToken);
        lock (Gate)
        {
            Require(request.SessionId);
            var count = request.Ids.Length / Id32.Size;
            var bits = new byte[(count + 7) / 8];
            for (var i = 0; i < count; i++)
            {
                if (Chunks.ContainsKey(Id32.Read(request.Ids.Span[(i * Id32.Size)..])))
                {
                    bits[i / 8] |= (byte)(1 << (i % 8));
                }
            }
            return new ProbeChunksResponse { PresentBitmap = ByteString.CopyFrom(bits) };
        }
    }

    public IDuplex<UploadRecordsRequest, UploadRecordsResponse> UploadRecords(CancellationToken cancellationToken) => new FakeUpload(this, Faults.NextUploadBreak());

    public async ValueTask<CommitRecoveryPointResponse> CommitRecoveryPointAsync(CommitRecoveryPointRequest request, CancellationToken cancellationToken)
    {
        await EnterAsync(cancellationToken);
        Faults.OnCommit?.Invoke();
        var manifest = Manifest.Parse(request.Manifest.ToByteArray());
        lock (Gate)
        {
            if (_points.All(point => point.Head.Point != manifest.Head.Point))
            {
                var session = Require(request.SessionId);
                CheckCommit(manifest, session);
                _points.Add(manifest);
                _sessions.Remove(session.Id);
            }
        }
        if (Faults.CommitAnswersLost > 0)
        {
            Faults.CommitAnswersLost--;
            throw FakeFaults.Unavailable();
        }
        return new CommitRecoveryPointResponse { ManifestHash = ByteString.CopyFrom(manifest.Hash.ToArray()) };
    }

    public async ValueTask<AbandonSessionResponse> AbandonSessionAsync(AbandonSessionRequest request, CancellationToken cancellationToken)
    {
        // Once sent, it arrives, even if the caller no longer waits.
        await EnterAsync(CancellationToken.None);
        lock (Gate)
        {
            Abandoned++;
            _sessions.Remove(request.SessionId);
        }
        return new AbandonSessionResponse();
    }

    public async ValueTask<ReadManifestResponse> ReadManifestAsync(ReadManifestRequest request, CancellationToken cancellationToken)
    {
        await EnterAsync(cancellationToken);
        var manifest = Find(request.PointId);
        var asked = GrantRequest.Verify(request.GrantRequest.Span, _agentKey);
        var keys = manifest.Head.Epochs.Select(epoch => KeySealing.Open(_keys[epoch], _restoreKey)).ToArray();
        var grant = RestoreGrant.Seal(asked, keys, [_idKey], long.MaxValue, _entropy);
        foreach (var key in keys)
        {
            key.Dispose();
        }
        return new ReadManifestResponse
        {
            Manifest = ByteString.CopyFrom(Faults.ManifestTamper(manifest.Bytes.ToArray())),
            Grant = ByteString.CopyFrom(Faults.GrantTamper(grant)),
            AgentPublicKey = ByteString.CopyFrom(_agentKey),
        };
    }

    public async IAsyncEnumerable<ReadOnlyMemory<byte>> ReadMapNodesAsync(ReadMapNodesRequest request, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        await EnterAsync(cancellationToken);
        Assert.True(Faults.AnyPoint || Find(request.PointId) is not null);
        for (var i = 0; i < request.Ids.Length; i += Id32.Size)
        {
            byte[] record;
            lock (Gate)
            {
                var id = Id32.Read(request.Ids.Span[i..]);
                var node = Nodes[id];
                var header = RecordHeader.ForNode(id, node.Length);
                record = new byte[header.RecordLength];
                header.Write(record);
                Faults.NodeTamper([.. node]).CopyTo(record, RecordHeader.Size);
            }
            foreach (var slice in record.Chunk(1000))
            {
                yield return slice;
                // Nobody may look at a slice when the next one comes.
                Array.Clear(slice);
            }
        }
    }

    public async IAsyncEnumerable<ReadOnlyMemory<byte>> ReadRecordsAsync(ReadRecordsRequest request, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        await EnterAsync(cancellationToken);
        Assert.InRange(request.Ranges.Count, 1, 4096);
        var stream = Find(request.PointId).Head.Streams.Single(stream => stream.Id.ToString() == request.StreamId);
        List<Id32> ids;
        lock (Gate)
        {
            ids = [.. new FakeWalk(Nodes).Entries(stream)
                .Where(entry => !entry.Entry.IsZero && request.Ranges.Any(range => entry.Offset < (long)(range.Offset + range.Length) && (long)range.Offset < entry.Offset + entry.Entry.Length))
                .Select(entry => entry.Entry.Id).Distinct()];
        }
        var sent = 0;
        foreach (var id in Faults.RecordList(ids, Chunks.Keys))
        {
            if (sent++ == Faults.ReadBreakAfter && Faults.ReadBreaks-- > 0)
            {
                throw FakeFaults.Unavailable();
            }
            cancellationToken.ThrowIfCancellationRequested();
            foreach (var slice in Faults.RecordTamper([.. Chunks[id]]).Chunk(Limits.SliceBytesMax))
            {
                yield return slice;
                Array.Clear(slice);
            }
        }
    }

    public void Dispose()
    {
        _idKey.Dispose();
        _restoreKey.Dispose();
    }

    /// <summary>As after a restart: sessions are gone and streams broken; what was durable stays.</summary>
    public void ForgetSessions()
    {
        lock (Gate)
        {
            foreach (var session in _sessions.Values)
            {
                session.Rewind();
            }
            _sessions.Clear();
        }
    }

    internal FakeSession Require(string id) =>
        _sessions.GetValueOrDefault(id) ?? throw new FaultException(FaultReason.SessionExpired, "The session is not known.");

    private Manifest Find(string point) => _points.First(known => known.Head.Point.ToString() == point);

    private async Task EnterAsync(CancellationToken cancellationToken)
    {
        await Task.Yield();
        cancellationToken.ThrowIfCancellationRequested();
        Faults.Enter();
    }

    private BeginSessionResponse Describe(FakeSession session)
    {
        var key = new byte[IdKey.Size];
        _idKey.CopyTo(key);
        var response = new BeginSessionResponse
        {
            SessionId = session.Id,
            RepositoryId = _repository.ToString(),
            LineageId = _lineage.ToString(),
            ScopeId = _repository.ToString(),
            IdGeneration = 1,
            IdKey = ByteString.CopyFrom(key),
            RestorePublicKey = ByteString.CopyFrom(_restoreKey.Public.SubjectPublicKeyInfo.Span),
            Sequence = (ulong)_points.Count + 1,
            PreviousManifest = _points.Count == 0 ? ByteString.Empty : ByteString.CopyFrom(_points[^1].Hash.ToArray()),
            BaseManifest = session.Request.BasePointId.Length == 0 ? ByteString.Empty : ByteString.CopyFrom(Find(session.Request.BasePointId).Hash.ToArray()),
            CreatedMs = 1_700_000_000_000 + _points.Count,
            Generation = 1,
        };
        response.Lanes.AddRange(session.Lanes.Select(lane => lane.State));
        return response;
    }

    private void CheckCommit(Manifest manifest, FakeSession session)
    {
        var head = manifest.Head;
        ManifestSealing.VerifySignature(manifest, _agentKey);
        Assert.Equal((session.Request.PointId, session.Request.VmId, _repository), (head.Point.ToString(), head.Vm.ToString(), head.Repository));
        Assert.Equal(_points.Count == 0 ? Id32.Zero : _points[^1].Hash, head.PreviousManifest);
        var keys = head.Epochs.ToDictionary(epoch => epoch, epoch => KeySealing.Open(_keys[epoch], _restoreKey));
        ManifestSealing.Open(manifest, keys[head.BodyEpoch]);
        foreach (var stream in head.Streams)
        {
            foreach (var (_, entry) in new FakeWalk(Nodes).Entries(stream))
            {
                if (entry.IsZero)
                {
                    continue;
                }
                if (!Chunks.TryGetValue(entry.Id, out var record))
                {
                    throw new FaultException(FaultReason.Incomplete, $"Chunk {entry.Id} is missing.");
                }
                Assert.Equal(entry.Length, RecordHeader.Parse(record).RawLength);
                keys[entry.EpochId].Unmask(entry.Id, entry.MaskedSecret);
            }
        }
    }
}

/// <summary>Reads the map of a stream from its nodes, strictly.</summary>
internal sealed class FakeWalk(IReadOnlyDictionary<Id32, byte[]> nodes)
{
    /// <summary>Every entry below nodes that are not zero.</summary>
    public IEnumerable<(long Offset, MapEntry Entry)> Entries(ManifestStream stream) => Entries(stream.Geometry, stream.Root);

    public IEnumerable<(long Offset, MapEntry Entry)> Entries(MapGeometry geometry, Id32 root) =>
        root.IsZero ? [] : Below(geometry, geometry.Height, 0, root);

    private IEnumerable<(long, MapEntry)> Below(MapGeometry geometry, int level, long index, Id32 id)
    {
        if (!nodes.TryGetValue(id, out var node))
        {
            throw new FaultException(FaultReason.Incomplete, $"Node {id} is missing.");
        }
        if (level == 0)
        {
            var leaf = MapLeaf.Parse(node, geometry.PlaceOf(0, index));
            var offset = geometry.OffsetOf(0, index);
            for (var i = 0; i < leaf.Count; i++)
            {
                yield return (offset, leaf[i]);
                offset += leaf.LengthAt(i);
            }
            yield break;
        }
        var inner = MapInner.Parse(node, geometry.PlaceOf(level, index));
        for (var i = 0; i < inner.Count; i++)
        {
            if (!inner[i].IsZero)
            {
                foreach (var entry in Below(geometry, level - 1, (index * MapShape.Radix) + i, inner[i]))
                {
                    yield return entry;
                }
            }
        }
    }
}
