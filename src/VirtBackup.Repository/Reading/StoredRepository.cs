using VirtBackup.Core;
using VirtBackup.Database;
using VirtBackup.Format;
using VirtBackup.Format.Manifests;
using VirtBackup.Repository.Points;
using VirtBackup.Repository.Rebuilding;

namespace VirtBackup.Repository.Reading;

/// <summary>
/// A repository that is read and not owned: nothing is written to its store, no owner is fenced. What is where is learnt
/// from the packs' tables of contents. For getting data out when there is nothing but the store. Safe for concurrent use.
/// </summary>
public sealed class StoredRepository
{
    private const int NodeCacheBytes = 512 << 10;

    private readonly IObjectStore _store;
    private readonly IDatabase _scratch;

    private StoredRepository(IObjectStore store, IDatabase scratch, RepositoryHead head)
    {
        _store = store;
        _scratch = scratch;
        Head = head;
    }

    public RepositoryHead Head { get; }

    /// <summary>Packs that cannot be read and were left out.</summary>
    public IReadOnlyList<ObjectProblem> Problems { get; private init; } = [];

    /// <summary>Reads every pack's table of contents.</summary>
    /// <param name="store">Belongs to the caller.</param>
    /// <param name="scratch">An empty database with the schema of <see cref="Index.RepositoryIndex"/>; belongs to the caller.</param>
    /// <param name="clock">For the times in the scratch database.</param>
    /// <param name="progress">Told how it goes on.</param>
    /// <param name="cancellationToken">Stops it.</param>
    /// <exception cref="FaultException"><see cref="FaultReason.NotFound"/>: no repository here; <see cref="FaultReason.Unsupported"/>: made by a newer program.</exception>
    public static async ValueTask<StoredRepository> OpenAsync(
        IObjectStore store, IDatabase scratch, TimeProvider clock, IProgress<RebuildProgress>? progress, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(store);
        ArgumentNullException.ThrowIfNull(scratch);
        ArgumentNullException.ThrowIfNull(clock);
        var head = await BackupRepository.ReadHeadAsync(store, cancellationToken);
        var problems = new List<ObjectProblem>();
        await new PackIntake(store, scratch, 0, clock, (key, problem) => problems.Add(new ObjectProblem(key, problem)), progress).RunAsync(cancellationToken);
        return new StoredRepository(store, scratch, head) { Problems = problems };
    }

    /// <summary>The manifests of all points, visible and forgotten, one by one; what is damaged is named in their place.</summary>
    public async IAsyncEnumerable<StoredManifest> ListAsync([System.Runtime.CompilerServices.EnumeratorCancellation] CancellationToken cancellationToken)
    {
        var visible = new HashSet<Id16>();
        await foreach (var info in _store.ListAsync(ObjectKeys.RecoveryPointsPrefix, cancellationToken))
        {
            if (ObjectKeys.TryParseManifest(info.Key, out _, out var point) && await ReadAsync(info.Key, point, isForgotten: false, cancellationToken) is { } stored)
            {
                visible.Add(point);
                yield return stored;
            }
        }
        await foreach (var info in _store.ListAsync(ObjectKeys.TrashPrefix, cancellationToken))
        {
            if (PointKeeper.TryParseTrash(info.Key, out _, out var point) && !visible.Contains(point)
                && await ReadAsync(info.Key, point, isForgotten: true, cancellationToken) is { } stored)
            {
                yield return stored;
            }
        }
    }

    /// <summary>Opens a point for reading.</summary>
    public RecoveryPointReader Open(Manifest manifest)
    {
        ArgumentNullException.ThrowIfNull(manifest);
        return new RecoveryPointReader(_store, _scratch, manifest, NodeCacheBytes);
    }

    private async ValueTask<StoredManifest?> ReadAsync(string key, Id16 point, bool isForgotten, CancellationToken cancellationToken)
    {
        try
        {
            var bytes = await _store.ReadAllAsync(key, Limits.ManifestBytesMax, cancellationToken);
            if (AbortTombstone.IsTombstone(bytes))
            {
                return null;
            }
            var manifest = Manifest.Parse(bytes);
            return manifest.Head.Point == point
                ? new StoredManifest(key, manifest, isForgotten, null)
                : new StoredManifest(key, null, isForgotten, "It is the manifest of another recovery point than its name says.");
        }
        catch (FaultException fault) when (fault.Reason is FaultReason.Malformed or FaultReason.Corrupt or FaultReason.Unsupported)
        {
            return new StoredManifest(key, null, isForgotten, fault.Message);
        }
    }
}

/// <summary>A manifest as it lies in the store.</summary>
/// <param name="ObjectKey">Where.</param>
/// <param name="Manifest">Null: it cannot be read.</param>
/// <param name="IsForgotten">It lies in the trash.</param>
/// <param name="Problem">Why it cannot be read.</param>
public sealed record StoredManifest(string ObjectKey, Manifest? Manifest, bool IsForgotten, string? Problem);
