using VirtBackup.Catalog;
using VirtBackup.Core;
using VirtBackup.Repository;
using VirtBackup.Repository.Points;

namespace VirtBackup.Controller.Retention;

/// <summary>
/// The one way in which recovery points are held, locked, forgotten and brought back: one change at a time, so that a hold
/// or lock that somebody was promised is never overtaken. Safe for concurrent use.
/// </summary>
public sealed class PointCustody(
    BackupRepository repository, PointLocks locks, CatalogDatabase catalog, ITrustedClock clock, IEntropy entropy) : IDisposable
{
    public const int ReasonCharsMax = 256;

    /// <summary>How far ahead a lock may end: what is typed wrong cannot be taken back.</summary>
    public static readonly TimeSpan LockMax = TimeSpan.FromDays(3650);

    private readonly Gate _changing = new();

    /// <summary>Places a hold.</summary>
    /// <param name="placedBy">An operator's name, or the part of the system.</param>
    /// <exception cref="FaultException">
    /// <see cref="FaultReason.InvalidArgument"/>: no reason, or a long one; <see cref="FaultReason.FailedPrecondition"/>: the point is forgotten.
    /// </exception>
    public async ValueTask<HoldRow> HoldAsync(PointRow point, string reason, string placedBy, bool bySystem, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(point);
        if (string.IsNullOrWhiteSpace(reason))
        {
            throw new FaultException(FaultReason.InvalidArgument, "A hold has a reason, so that others know when to release it.");
        }
        _ = WireText.Bounded(reason, ReasonCharsMax, "reason of the hold");
        using (await _changing.CloseAsync(cancellationToken))
        {
            await RequireListedAsync(point, cancellationToken);
            var now = await clock.ReadAsync(cancellationToken);
            var hold = new HoldRow(Id16.Create(entropy), point.PointId, reason, placedBy, bySystem, now.NowMs);
            await catalog.Holds.AddAsync(hold, cancellationToken);
            return hold;
        }
    }

    /// <summary>Holds all listed points of a machine that are meant and that this part of the system does not hold yet.</summary>
    /// <param name="vm">Whose points.</param>
    /// <param name="isMeant">Which of them.</param>
    /// <param name="reason">At most <see cref="ReasonCharsMax"/> characters.</param>
    /// <param name="placedBy">The part of the system.</param>
    /// <param name="cancellationToken">Stops before the holds are placed.</param>
    /// <returns>How many were held.</returns>
    public async ValueTask<int> HoldMachineAsync(Id16 vm, Func<PointRow, bool> isMeant, string reason, string placedBy, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(isMeant);
        using (await _changing.CloseAsync(cancellationToken))
        {
            var now = await clock.ReadAsync(cancellationToken);
            var held = await catalog.Holds.ListOfMachineAsync(vm, cancellationToken);
            var holds = new List<HoldRow>();
            foreach (var point in await catalog.Points.ListOfMachineAsync(vm, cancellationToken))
            {
                var own = held[point.PointId].ToList();
                if (isMeant(point) && own.Count < HoldRecords.CountMax && !own.Exists(hold => hold.BySystem && hold.PlacedBy == placedBy))
                {
                    holds.Add(new HoldRow(Id16.Create(entropy), point.PointId, reason, placedBy, BySystem: true, now.NowMs));
                }
            }
            await catalog.Holds.AddAllAsync(holds, cancellationToken);
            return holds.Count;
        }
    }

    /// <summary>Releases what <see cref="HoldMachineAsync"/> held. Returns how many holds there were.</summary>
    public async ValueTask<int> ReleaseMachineAsync(Id16 vm, string placedBy, CancellationToken cancellationToken)
    {
        using (await _changing.CloseAsync(cancellationToken))
        {
            return await catalog.Holds.RemoveAllAsync(vm, placedBy, cancellationToken);
        }
    }

    /// <summary>Releases the hold whose id starts so; with an empty text the only one.</summary>
    /// <exception cref="FaultException">
    /// <see cref="FaultReason.NotFound"/>: there is none; <see cref="FaultReason.FailedPrecondition"/>: more than one is meant.
    /// </exception>
    public async ValueTask ReleaseAsync(PointRow point, string holdId, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(point);
        using (await _changing.CloseAsync(cancellationToken))
        {
            var holds = (await catalog.Holds.ListAsync(point.PointId, cancellationToken)).FindAll(hold => hold.HoldId.ToString().StartsWith(holdId, StringComparison.Ordinal));
            if (holds.Count == 0)
            {
                throw new FaultException(FaultReason.NotFound, $"The recovery point {point.PointId} has no {(holdId.Length == 0 ? "hold" : $"hold '{holdId}'")}.");
            }
            if (holds.Count > 1)
            {
                var all = string.Join("; ", holds.Select(static hold => $"{hold.HoldId} ({hold.Reason})"));
                throw new FaultException(FaultReason.FailedPrecondition, $"The recovery point {point.PointId} has more than one hold, so say which: {all}.");
            }
            await catalog.Holds.RemoveAsync(point.PointId, holds[0].HoldId, cancellationToken);
        }
    }

    /// <summary>Locks the point, or makes its lock longer. There is no way back.</summary>
    /// <param name="untilMs">Unix milliseconds.</param>
    /// <exception cref="FaultException">
    /// <see cref="FaultReason.InvalidArgument"/>: over already, or more than <see cref="LockMax"/> ahead;
    /// <see cref="FaultReason.FailedPrecondition"/>: locked for longer already, or forgotten.
    /// </exception>
    public async ValueTask LockAsync(PointRow point, long untilMs, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(point);
        using (await _changing.CloseAsync(cancellationToken))
        {
            await RequireListedAsync(point, cancellationToken);
            var now = await clock.ReadAsync(cancellationToken);
            if (untilMs <= now.NowMs || untilMs - now.NowMs > LockMax.TotalMilliseconds)
            {
                throw new FaultException(
                    FaultReason.InvalidArgument, $"A lock ends after now ({DateTimeOffset.FromUnixTimeMilliseconds(now.NowMs):yyyy-MM-dd HH:mm} UTC) and at most {LockMax.TotalDays:0} days later.");
            }
            await locks.LengthenAsync(point.PointId, untilMs, cancellationToken);
        }
    }

    /// <summary>Takes the point out of the list. The repository changes first; the catalog follows.</summary>
    /// <exception cref="FaultException">
    /// <see cref="FaultReason.FailedPrecondition"/>: somebody holds it; <see cref="FaultReason.RetentionLocked"/>; what the repository says.
    /// </exception>
    public async ValueTask ForgetAsync(PointRow point, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(point);
        using (await _changing.CloseAsync(cancellationToken))
        {
            if ((await catalog.Holds.ListAsync(point.PointId, cancellationToken)).FirstOrDefault() is { } hold)
            {
                throw new FaultException(FaultReason.FailedPrecondition, $"The recovery point {point.PointId} is held by {hold.PlacedBy}: {hold.Reason}. Release it first.");
            }
            var now = await clock.ReadAsync(cancellationToken);
            await locks.RequireUnlockedAsync(point.PointId, now.NowMs, cancellationToken);
            if ((await catalog.Peers.ListAsync(cancellationToken)).Count > 0)
            {
                // Before the point goes: a peer that has it, too, must not bring it back.
                await catalog.Replication.NoteExpiredAsync(point.PointId, now.NowMs, cancellationToken);
            }
            await repository.ForgetAsync(point.PointId, cancellationToken);
            await catalog.Points.SetForgottenAsync(point.PointId, true, CancellationToken.None);
        }
    }

    /// <summary>Brings the point back. The repository changes first; the catalog follows.</summary>
    public async ValueTask RecallAsync(PointRow point, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(point);
        using (await _changing.CloseAsync(cancellationToken))
        {
            await repository.RecallAsync(point.VmId, point.PointId, cancellationToken);
            await catalog.Points.SetForgottenAsync(point.PointId, false, CancellationToken.None);
            await catalog.Replication.NoteWantedAsync(point.PointId, CancellationToken.None);
        }
    }

    public void Dispose() => _changing.Dispose();

    private async ValueTask RequireListedAsync(PointRow point, CancellationToken cancellationToken)
    {
        if (await catalog.Points.FindAsync(point.PointId, cancellationToken) is not { Forgotten: false })
        {
            throw new FaultException(FaultReason.FailedPrecondition, $"The recovery point {point.PointId} is forgotten: bring it back first (recovery-point forget --undo).");
        }
    }
}
