using VirtBackup.Core;

namespace VirtBackup.Catalog;

/// <summary>What <see cref="RecoveryPointProjection.RunAsync"/> did.</summary>
/// <param name="Added">Points that the repository holds and the catalog did not know.</param>
/// <param name="Removed">Points that the catalog knew and the repository does not hold.</param>
/// <param name="Changed">Points whose mark "forgotten" differed.</param>
public readonly record struct ProjectionOutcome(int Added, int Removed, int Changed);

/// <summary>Makes the catalog say of recovery points what the repository says: after a lost catalog, a copy of an old one, a crash between the two.</summary>
public sealed class RecoveryPointProjection(PointRecords points)
{
    /// <param name="repository">Every committed point, and whether it is forgotten.</param>
    /// <param name="describe">Reads one point from the repository; null: it is gone by now.</param>
    public async ValueTask<ProjectionOutcome> RunAsync(
        IReadOnlyDictionary<Id16, bool> repository, Func<Id16, CancellationToken, ValueTask<PointRow?>> describe, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(repository);
        ArgumentNullException.ThrowIfNull(describe);
        var outcome = default(ProjectionOutcome);
        var known = await points.ListIdsAsync(cancellationToken);
        foreach (var pointId in known.Keys)
        {
            if (!repository.ContainsKey(pointId))
            {
                await points.DeleteAsync(pointId, cancellationToken);
                outcome = outcome with { Removed = outcome.Removed + 1 };
            }
        }
        foreach (var (pointId, forgotten) in repository)
        {
            if (known.TryGetValue(pointId, out var marked))
            {
                if (marked != forgotten)
                {
                    await points.SetForgottenAsync(pointId, forgotten, cancellationToken);
                    outcome = outcome with { Changed = outcome.Changed + 1 };
                }
            }
            else if (await describe(pointId, cancellationToken) is { } row)
            {
                await points.SaveAsync(row with { Forgotten = forgotten }, cancellationToken);
                outcome = outcome with { Added = outcome.Added + 1 };
            }
        }
        return outcome;
    }
}
