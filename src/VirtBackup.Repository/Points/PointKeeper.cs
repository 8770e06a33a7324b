using VirtBackup.Core;
using VirtBackup.Database;
using VirtBackup.Format;
using VirtBackup.Format.Manifests;
using VirtBackup.Repository.Commits;
using VirtBackup.Repository.Index;

namespace VirtBackup.Repository.Points;

/// <summary>
/// Forgets recovery points and brings them back. A forgotten point's manifest lies under <c>trash/</c> at its old key; it
/// is copied before the original goes, so that a crash at worst leaves both, and then the original counts.
/// </summary>
internal sealed class PointKeeper(IObjectStore store, IDatabase index, Ownership owner, RecoveryPointCommitter committer, TimeProvider clock)
{
    /// <summary>How many points were brought into the index so far.</summary>
    public long Adopted => committer.Adoptions.Latest;

    public static string TrashKey(Id16 vm, Id16 point) => ObjectKeys.TrashPrefix + ObjectKeys.Manifest(vm, point);

    /// <summary>Where the manifest of a point lies.</summary>
    public static string KeyOf(RecoveryPointInfo info, bool isForgotten) =>
        isForgotten ? TrashKey(info.Vm, info.Point) : ObjectKeys.Manifest(info.Vm, info.Point);

    public static bool TryParseTrash(string key, out Id16 vm, out Id16 point)
    {
        (vm, point) = (default, default);
        return key.StartsWith(ObjectKeys.TrashPrefix, StringComparison.Ordinal)
            && ObjectKeys.TryParseManifest(key[ObjectKeys.TrashPrefix.Length..], out vm, out point);
    }

    public async ValueTask ForgetAsync(Id16 point, CancellationToken cancellationToken)
    {
        var info = await index.ReadAsync(connection => PointTable.Find(connection, point), cancellationToken)
            ?? throw new FaultException(FaultReason.NotFound, $"There is no recovery point {point} in the repository.");
        await owner.RequireAsync(cancellationToken);
        await RequireUnlockedAsync(point, clock.GetUtcNow().ToUnixTimeMilliseconds(), cancellationToken);
        var key = ObjectKeys.Manifest(info.Vm, point);
        await MoveAsync(key, TrashKey(info.Vm, point), cancellationToken);
        // Its roots stay counted until it is purged.
        var now = clock.GetUtcNow().ToUnixTimeMilliseconds();
        await index.WriteAsync(connection => PointTable.SetForgotten(connection, point, now), CancellationToken.None);
    }

    public async ValueTask RecallAsync(Id16 vm, Id16 point, CancellationToken cancellationToken)
    {
        await owner.RequireAsync(cancellationToken);
        var key = ObjectKeys.Manifest(vm, point);
        var trashed = TrashKey(vm, point);
        var bytes = await store.FindAsync(trashed, cancellationToken) is null
            ? throw new FaultException(FaultReason.NotFound, $"There is no forgotten recovery point {point} that could be brought back.")
            : await store.ReadAllAsync(trashed, Limits.ManifestBytesMax, cancellationToken);
        var manifest = Manifest.Parse(bytes);
        if (manifest.Head.Vm != vm || manifest.Head.Point != point)
        {
            throw FaultException.Corrupt($"The object {trashed} holds another recovery point than its name says.");
        }
        if (await index.ReadAsync(connection => PointTable.FindForgotten(connection, point), cancellationToken) is { Info: { IsComplete: false } row } && row.ManifestHash == manifest.Hash)
        {
            // What is left of a damaged point must not be purged because some of it is lost.
            await MoveAsync(trashed, key, cancellationToken);
            await index.WriteAsync(connection => PointTable.SetForgotten(connection, point, 0), CancellationToken.None);
            return;
        }
        await committer.CheckAsync(manifest, inspector: null, cancellationToken);
        await MoveAsync(trashed, key, cancellationToken);
        await committer.AdoptAsync(manifest, isComplete: true, forgottenMs: 0, CancellationToken.None);
    }

    public async ValueTask<IReadOnlyList<ForgottenPoint>> ListForgottenAsync(CancellationToken cancellationToken) =>
        await index.ReadAsync(
            connection => PointTable.ListForgotten(connection)
                .ConvertAll(row => new ForgottenPoint(row.Info.Vm, row.Info.Point) { ForgottenMs = row.ForgottenMs, CreatedMs = row.Info.CreatedMs }),
            cancellationToken);

    /// <summary>
    /// Lets go of a forgotten point for good: its manifest first, then its row and the counts of its roots. A crash between
    /// the two is made up for at the next start. Nothing happens when the point is forgotten no longer.
    /// </summary>
    /// <param name="point">The point.</param>
    /// <param name="nowMs">By which locks are judged, Unix milliseconds.</param>
    /// <param name="cancellationToken">Stops before the manifest goes.</param>
    /// <exception cref="FaultException"><see cref="FaultReason.RetentionLocked"/>; <see cref="FaultReason.Fenced"/>.</exception>
    public async ValueTask PurgeAsync(Id16 point, long nowMs, CancellationToken cancellationToken)
    {
        if (await index.ReadAsync(connection => PointTable.FindForgotten(connection, point), cancellationToken) is not { Info: var info })
        {
            return;
        }
        await RequireUnlockedAsync(point, nowMs, cancellationToken);
        await owner.RequireAsync(cancellationToken);
        if (await store.FindAsync(ObjectKeys.Manifest(info.Vm, point), cancellationToken) is not null)
        {
            throw new FaultException(FaultReason.FailedPrecondition, $"The recovery point {point} is forgotten in the index and visible in the store. Nothing is deleted: restart the controller.");
        }
        await store.DeleteAsync(TrashKey(info.Vm, point), cancellationToken);
        await index.WriteAsync(connection => PointTable.Remove(connection, point), CancellationToken.None);
        committer.Adoptions.Remove(point);
    }

    /// <summary>Looks again at points that lacked something: it may be back. No point may change meanwhile.</summary>
    /// <returns>Points that are whole again.</returns>
    public async ValueTask<List<Id16>> RecheckAsync(CancellationToken cancellationToken)
    {
        var whole = new List<Id16>();
        foreach (var (info, forgottenMs, _) in await index.ReadAsync(PointTable.ListIncomplete, cancellationToken))
        {
            try
            {
                var key = KeyOf(info, forgottenMs > 0);
                var manifest = Manifest.Parse(await store.ReadAllAsync(key, Limits.ManifestBytesMax, cancellationToken));
                if (manifest.Hash == info.ManifestHash)
                {
                    await committer.CheckAsync(manifest, inspector: null, cancellationToken);
                    await committer.AdoptAsync(manifest, isComplete: true, forgottenMs, CancellationToken.None);
                    whole.Add(info.Point);
                }
            }
            catch (FaultException fault) when (fault.Reason is FaultReason.Incomplete or FaultReason.Malformed or FaultReason.Corrupt or FaultReason.Unsupported or FaultReason.NotFound
                or FaultReason.Unavailable or FaultReason.Denied)
            {
                // Still not whole, or not to be told now: the others are.
            }
        }
        return whole;
    }

    private async ValueTask RequireUnlockedAsync(Id16 point, long nowMs, CancellationToken cancellationToken)
    {
        var until = -1L;
        await foreach (var info in store.ListAsync($"{ObjectKeys.LocksPrefix}{point}/", cancellationToken))
        {
            if (ObjectKeys.TryParseLock(info.Key, out _, out var found))
            {
                until = Math.Max(until, found);
            }
        }
        if (until > nowMs)
        {
            throw new FaultException(
                FaultReason.RetentionLocked,
                $"The recovery point {point} is locked until {DateTimeOffset.FromUnixTimeMilliseconds(until):yyyy-MM-dd HH:mm} UTC and cannot be forgotten before.");
        }
    }

    /// <summary>Copies, then deletes. A copy left by an earlier try must be the same.</summary>
    private async ValueTask MoveAsync(string from, string to, CancellationToken cancellationToken)
    {
        var bytes = await store.ReadAllAsync(from, Limits.ManifestBytesMax, cancellationToken);
        if (!await store.PutSameAsync(to, bytes, cancellationToken))
        {
            throw new FaultException(FaultReason.AlreadyExists, $"The object {to} exists already and differs from {from}. Verify the repository.");
        }
        await store.DeleteAsync(from, CancellationToken.None);
    }
}
