using VirtBackup.Core;
using VirtBackup.Database;
using VirtBackup.Repository.Commits;

namespace VirtBackup.Repository.Rebuilding;

/// <summary>
/// Makes an index anew, each table in the order of its keys: reads all tables of contents, then from the manifests down all map
/// nodes level by level, each time in the order in which they lie in the packs; what is read is spooled by id, and each
/// bucket is sorted, checked and written with its counts at once. The index says that it is not whole until it is: a rebuild
/// that is cut off begins again.
/// </summary>
internal sealed class IndexRebuild(IObjectStore store, IDatabase index, RecoveryPointCommitter committer, long generation, TimeProvider clock, RebuildNews news)
{
    /// <summary>Runs once.</summary>
    /// <param name="addKeysAsync">Brings the key objects into the index.</param>
    /// <param name="cancellationToken">Stops it.</param>
    /// <returns>Visible points.</returns>
    public async ValueTask<long> RunAsync(Func<ValueTask> addKeysAsync, CancellationToken cancellationToken)
    {
        await index.WriteAsync(Clear, cancellationToken);
        using var space = new RebuildSpace(index);
        await new PackSurvey(space, store, index, generation, clock, news).RunAsync(cancellationToken);
        await addKeysAsync();
        var points = new PointRebuild(space, new StoredManifests(store, news), index, committer, clock, news);
        await points.PlanAsync(cancellationToken);
        await new TreeSurvey(space, store, news).RunAsync(cancellationToken);
        await new RowWriter(space, index, news).RunAsync(cancellationToken);
        var added = await points.AddAsync(cancellationToken);
        await index.WriteAsync(static connection => connection.Execute("UPDATE owner SET rebuilding = 0"), cancellationToken);
        return added;
    }

    private static void Clear(ISqlConnection connection) => connection.Execute(
        """
        UPDATE owner SET rebuilding = 1;
        DELETE FROM object; DELETE FROM pack; DELETE FROM scope; DELETE FROM complete_node; DELETE FROM epoch_set;
        DELETE FROM point; DELETE FROM pending_commit; DELETE FROM vm_key; DELETE FROM collection; DELETE FROM audit; DELETE FROM damage;
        DELETE FROM retained;
        UPDATE numbering SET next = 1;
        """);
}
