using VirtBackup.Core;
using VirtBackup.Database;

namespace VirtBackup.Repository.Rebuilding;

/// <summary>What a rebuild has learnt from the store and not yet written. Dispose it to give the scratch back.</summary>
internal sealed class RebuildSpace(IDatabase index) : IDisposable
{
    /// <summary>Ids are spread evenly over them; a bucket of records is held in memory while it is sorted.</summary>
    public const int Buckets = 256;

    private readonly IScratch _scratch = index.OpenScratch();
    private readonly Dictionary<Id16, int> _scopes = [];
    private readonly List<Id16> _scopeIds = [];
    private BucketSpool<StoredRecord>? _records;
    private MapTrees? _trees;

    /// <summary>Packs by number within the rebuild, ascending as in the index.</summary>
    public PagedList<RebuiltPack> Packs { get; } = new();

    public BucketSpool<StoredRecord> Records => _records ??= new(_scratch, Buckets);

    public MapTrees Trees => _trees ??= new(_scratch);

    /// <summary>Scopes by number within the rebuild.</summary>
    public IReadOnlyList<Id16> Scopes => _scopeIds;

    public static int BucketOf(Id32 id) => (int)(id.Leading >> 56);

    public int ScopeOf(Id16 scope)
    {
        if (!_scopes.TryGetValue(scope, out var number))
        {
            _scopes.Add(scope, number = _scopeIds.Count);
            _scopeIds.Add(scope);
        }
        return number;
    }

    public void Dispose() => _scratch.Dispose();
}

/// <summary>A pack that a rebuild has read.</summary>
internal readonly record struct RebuiltPack(Id32 Hash, long Number);
