using VirtBackup.Core;
using VirtBackup.Format;
using VirtBackup.Format.Manifests;
using VirtBackup.Repository.Index;
using VirtBackup.Repository.Points;

namespace VirtBackup.Repository.Collection;

/// <summary>
/// Compares the manifests that the store lists with those that the index counts. The store decides what exists: on any
/// difference nothing is deleted.
/// </summary>
internal static class ManifestCheck
{
    /// <exception cref="FaultException"><see cref="FaultReason.FailedPrecondition"/>: they differ.</exception>
    public static async ValueTask RequireEqualAsync(CollectionRun run, CancellationToken cancellationToken)
    {
        var (visible, forgotten) = await ReadIndexAsync(run, cancellationToken);
        var unknown = new List<(string Key, Id16 Point, bool IsVisible)>();
        await foreach (var info in run.Store.ListAsync(ObjectKeys.RecoveryPointsPrefix, cancellationToken))
        {
            if (!ObjectKeys.TryParseManifest(info.Key, out _, out var point) || !visible.Remove(point))
            {
                unknown.Add((info.Key, point, true));
            }
        }
        await foreach (var info in run.Store.ListAsync(ObjectKeys.TrashPrefix, cancellationToken))
        {
            if (PointKeeper.TryParseTrash(info.Key, out _, out var point) && !forgotten.Remove(point))
            {
                unknown.Add((info.Key, point, false));
            }
        }
        if (unknown.Count + visible.Count + forgotten.Count == 0)
        {
            return;
        }
        // Points may have come and gone meanwhile: only what still differs when nothing changes counts.
        using var still = await run.ChangingPoints.CloseAsync(cancellationToken);
        var (visibleNow, forgottenNow) = await ReadIndexAsync(run, cancellationToken);
        foreach (var (key, point, isVisible) in unknown)
        {
            // A copy in the trash does not count beside a manifest at its own key.
            if (!visibleNow.Contains(point) && (isVisible || !forgottenNow.Contains(point)) && await IsManifestAsync(run, key, cancellationToken))
            {
                throw Refuse(
                    $"The store holds {key}, which the index does not know.",
                    "restart the controller; if it is still so, the object is damaged or misnamed: put the right one in its place, or move it out of the repository and lose that point");
            }
        }
        foreach (var (point, vm) in visible)
        {
            if (visibleNow.Contains(point) && await run.Store.FindAsync(ObjectKeys.Manifest(vm, point), cancellationToken) is null)
            {
                throw Refuse($"The manifest of recovery point {point} is not in the store any more.");
            }
        }
        foreach (var (point, vm) in forgotten)
        {
            if (forgottenNow.Contains(point) && await run.Store.FindAsync(PointKeeper.TrashKey(vm, point), cancellationToken) is null)
            {
                throw Refuse($"The manifest of the forgotten recovery point {point} is not in the store any more.");
            }
        }
    }

    private static ValueTask<(PointSet Visible, PointSet Forgotten)> ReadIndexAsync(CollectionRun run, CancellationToken cancellationToken) =>
        run.Index.ReadAsync(
            connection => (
                new PointSet(PointTable.List(connection, null).Select(static point => (point.Point, point.Vm))),
                new PointSet(PointTable.ListForgotten(connection).Select(static row => (row.Info.Point, row.Info.Vm)))),
            cancellationToken);

    private static async ValueTask<bool> IsManifestAsync(CollectionRun run, string key, CancellationToken cancellationToken)
    {
        if (await run.Store.FindAsync(key, cancellationToken) is null)
        {
            return false;
        }
        return !AbortTombstone.IsTombstone(await run.Store.ReadAllAsync(key, Limits.ManifestBytesMax, cancellationToken));
    }

    private static FaultException Refuse(string why, string whatToDo = "restart the controller") =>
        new(FaultReason.FailedPrecondition, $"{why} Nothing is deleted while store and index differ: {whatToDo}.");

    private sealed class PointSet(IEnumerable<(Id16 Point, Id16 Vm)> points) : IEnumerable<(Id16 Point, Id16 Vm)>
    {
        private readonly Dictionary<Id16, Id16> _points = points.ToDictionary(static row => row.Point, static row => row.Vm);

        public int Count => _points.Count;

        public bool Contains(Id16 point) => _points.ContainsKey(point);

        public bool Remove(Id16 point) => _points.Remove(point);

        public IEnumerator<(Id16 Point, Id16 Vm)> GetEnumerator() => _points.Select(static row => (row.Key, row.Value)).GetEnumerator();

        System.Collections.IEnumerator System.Collections.IEnumerable.GetEnumerator() => GetEnumerator();
    }
}
