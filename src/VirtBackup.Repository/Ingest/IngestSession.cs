using VirtBackup.Core;
using VirtBackup.Format;
using VirtBackup.Format.Records;
using VirtBackup.Repository.Collection;
using VirtBackup.Repository.Index;

namespace VirtBackup.Repository.Ingest;

/// <summary>
/// One writer's run: the lanes that it uploads and what they stored. Made by <see cref="BackupRepository.BeginIngest"/>.
/// Lanes may be used concurrently with each other; disposing drops what is not durable.
/// </summary>
public sealed class IngestSession : IAsyncDisposable
{
    private readonly IObjectStore _store;
    private readonly PackIndexer _indexer;
    private readonly Lock _sync = new();
    private readonly List<IngestLane> _lanes = [];
    private readonly Gate _gate;
    private readonly SessionClaim _claim;
    private long _storedBytes;
    private long _chunkBytes;
    private long _chunkSealedBytes;

    internal IngestSession(
        IObjectStore store, PackIndexer indexer, Gate gate, SessionClaim claim, Id16 scope, ushort? idGeneration, int packBytesTarget)
    {
        _store = store;
        _indexer = indexer;
        _gate = gate;
        _claim = claim;
        Scope = scope;
        OnlyGeneration = idGeneration;
        PackBytesTarget = packBytesTarget;
    }

    /// <summary>The scope of every data record of this session.</summary>
    public Id16 Scope { get; }

    /// <summary>The id key's generation of every data record of this session; 0: of any, because it copies what was made elsewhere.</summary>
    public ushort IdGeneration => OnlyGeneration ?? 0;

    internal ushort? OnlyGeneration { get; }

    /// <summary>Bytes of the packs that this session made durable.</summary>
    public long StoredBytes => Interlocked.Read(ref _storedBytes);

    /// <summary>Bytes of the chunks that this session made durable: before compression, and sealed.</summary>
    public (long Raw, long Sealed) ChunkBytes => (Interlocked.Read(ref _chunkBytes), Interlocked.Read(ref _chunkSealedBytes));

    internal int PackBytesTarget { get; }

    /// <summary>What the session relies on without having sent it.</summary>
    internal SessionClaim Claim => _claim;

    /// <summary>Opens a lane, a byte stream of records of one kind.</summary>
    public IngestLane OpenLane(RecordKind kind)
    {
        Check.That(kind is RecordKind.Data or RecordKind.Map);
        var lane = new IngestLane(this, kind);
        lock (_sync)
        {
            _lanes.Add(lane);
        }
        return lane;
    }

    public async ValueTask DisposeAsync()
    {
        IngestLane[] lanes;
        lock (_sync)
        {
            lanes = [.. _lanes];
        }
        foreach (var lane in lanes)
        {
            await lane.DisposeAsync();
        }
        _claim.Dispose();
    }

    internal ValueTask<StagedPack> CreatePackAsync(RecordKind kind, CancellationToken cancellationToken) =>
        StagedPack.CreateAsync(_store, kind, cancellationToken);

    /// <summary>A damaged pack that was in the way of one of this session is gone: what failed for that can be done again, in another session.</summary>
    internal bool HasMadeRoom { get; private set; }

    /// <summary>Publishes and indexes; when it returns, the pack's records may be acknowledged.</summary>
    internal async ValueTask StoreAsync(StagedPack pack, CancellationToken cancellationToken)
    {
        StoredPack stored;
        try
        {
            stored = await pack.PublishAsync(cancellationToken);
        }
        catch (FaultException fault) when (fault.Reason == FaultReason.Corrupt && pack.Blocker is { } blocker)
        {
            await RemoveBlockerAsync(blocker, cancellationToken);
            throw;
        }
        if (pack.WasThere)
        {
            await AddAgainAsync(stored, cancellationToken);
        }
        else
        {
            await _indexer.AddAsync(stored, cancellationToken);
        }
        Interlocked.Add(ref _storedBytes, stored.Bytes);
        if (stored.Kind == RecordKind.Data)
        {
            var (raw, packed) = (0L, 0L);
            foreach (var entry in stored.Entries)
            {
                raw += entry.Header.RawLength;
                packed += entry.Header.SealedLength;
            }
            Interlocked.Add(ref _chunkBytes, raw);
            Interlocked.Add(ref _chunkSealedBytes, packed);
        }
    }

    /// <summary>A damaged pack that no row names makes room for the sound one; any other is the next that the scrub reads.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.Unavailable"/>: it is gone, the records can be sent again.</exception>
    private async ValueTask RemoveBlockerAsync(StoredPack pack, CancellationToken cancellationToken)
    {
        var key = ObjectKeys.Pack(pack.Hash);
        using var closed = await _gate.CloseAsync(cancellationToken);
        // Another lane, or a repair, may have put the sound pack there since it was looked at, and rely on it.
        if (await _store.FindAsync(key, cancellationToken) is null || await PackReader.HashAsync(_store, key, pack.Bytes, cancellationToken) == pack.Hash)
        {
            HasMadeRoom = true;
            throw new FaultException(FaultReason.Unavailable, "A damaged copy of the pack was in the way and is not any more: send its records again.");
        }
        if (await _indexer.TryForgetAsync(pack.Hash, cancellationToken))
        {
            await _store.DeleteAsync(key, cancellationToken);
            HasMadeRoom = true;
            throw new FaultException(FaultReason.Unavailable, "A damaged copy of the pack was in the way and has been removed: send its records again.");
        }
    }

    /// <summary>The pack may be on its way out of the store: whether it still exists is asked while nothing is deleted.</summary>
    private async ValueTask AddAgainAsync(StoredPack pack, CancellationToken cancellationToken)
    {
        using var closed = await _gate.CloseAsync(cancellationToken);
        if (await _store.FindAsync(ObjectKeys.Pack(pack.Hash), cancellationToken) is null)
        {
            throw new FaultException(FaultReason.Unavailable, "The pack was just deleted from the repository: send its records again.");
        }
        // Not to be left in the queue: the gate opens again.
        await _indexer.AddAsync(pack, CancellationToken.None);
    }
}
