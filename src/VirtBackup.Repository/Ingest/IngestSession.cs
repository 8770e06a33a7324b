using VirtBackup.Core;
using VirtBackup.Format.Records;
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
    private long _storedBytes;

    internal IngestSession(IObjectStore store, PackIndexer indexer, Id16 scope, ushort idGeneration, int packBytesTarget)
    {
        _store = store;
        _indexer = indexer;
        Scope = scope;
        IdGeneration = idGeneration;
        PackBytesTarget = packBytesTarget;
    }

    /// <summary>The scope of every data record of this session.</summary>
    public Id16 Scope { get; }

    /// <summary>The id key's generation of every data record of this session.</summary>
    public ushort IdGeneration { get; }

    /// <summary>Bytes of the packs that this session made durable.</summary>
    public long StoredBytes => Interlocked.Read(ref _storedBytes);

    internal int PackBytesTarget { get; }

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
    }

    internal ValueTask<StagedPack> CreatePackAsync(RecordKind kind, CancellationToken cancellationToken) =>
        StagedPack.CreateAsync(_store, kind, cancellationToken);

    /// <summary>Publishes and indexes; when it returns, the pack's records may be acknowledged.</summary>
    internal async ValueTask StoreAsync(StagedPack pack, CancellationToken cancellationToken)
    {
        var stored = await pack.PublishAsync(cancellationToken);
        await _indexer.AddAsync(stored, cancellationToken);
        Interlocked.Add(ref _storedBytes, stored.Bytes);
    }
}
