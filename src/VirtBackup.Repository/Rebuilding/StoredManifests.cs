using VirtBackup.Core;
using VirtBackup.Format;
using VirtBackup.Format.Manifests;
using VirtBackup.Repository.Points;

namespace VirtBackup.Repository.Rebuilding;

/// <summary>The manifests that lie in the store. Damaged ones are told and left out.</summary>
internal sealed class StoredManifests(IObjectStore store, RebuildNews news)
{
    /// <summary>Objects where visible points have their manifests.</summary>
    public async IAsyncEnumerable<StoredPoint> ListAsync([System.Runtime.CompilerServices.EnumeratorCancellation] CancellationToken cancellationToken)
    {
        await foreach (var info in store.ListAsync(ObjectKeys.RecoveryPointsPrefix, cancellationToken))
        {
            if (ObjectKeys.TryParseManifest(info.Key, out var vm, out var point))
            {
                yield return new StoredPoint(info, vm, point);
            }
            else
            {
                news.Report(info.Key, "It is not named as a manifest.");
            }
        }
    }

    /// <summary>Objects where forgotten points have theirs.</summary>
    public async ValueTask<Dictionary<Id16, StoredPoint>> ListTrashAsync(CancellationToken cancellationToken)
    {
        var trashed = new Dictionary<Id16, StoredPoint>();
        await foreach (var info in store.ListAsync(ObjectKeys.TrashPrefix, cancellationToken))
        {
            if (PointKeeper.TryParseTrash(info.Key, out var vm, out var point))
            {
                trashed[point] = new StoredPoint(info, vm, point);
            }
        }
        return trashed;
    }

    /// <summary>Null: there is none, because the commit was given up, or it is damaged.</summary>
    public async ValueTask<Manifest?> ReadAsync(StoredPoint stored, CancellationToken cancellationToken)
    {
        try
        {
            var bytes = await store.ReadAllAsync(stored.Info.Key, Limits.ManifestBytesMax, cancellationToken);
            if (AbortTombstone.IsTombstone(bytes))
            {
                return null;
            }
            var manifest = Manifest.Parse(bytes);
            if (manifest.Head.Vm == stored.Vm && manifest.Head.Point == stored.Point)
            {
                return manifest;
            }
            news.Report(stored.Info.Key, "It is the manifest of another recovery point than its name says.");
        }
        catch (FaultException fault) when (StoreHealth.IsDamage(fault))
        {
            news.Report(stored.Info.Key, fault.Message);
        }
        return null;
    }
}

/// <summary>An object that is named as a point's manifest.</summary>
internal readonly record struct StoredPoint(ObjectInfo Info, Id16 Vm, Id16 Point);
