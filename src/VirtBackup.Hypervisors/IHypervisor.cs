using VirtBackup.Core;
using VirtBackup.Hypervisors.Guests;

namespace VirtBackup.Hypervisors;

/// <summary>
/// The hypervisor port. Every platform has the same life cycle: list and describe → settle what an earlier run left →
/// begin a capture → read disks → commit or abandon; and check → create → write → start for a restore. Nothing above
/// this port knows which platform it holds. Safe for concurrent use across machines; operations on one machine are
/// serialised by the caller.
/// </summary>
public interface IHypervisor
{
    /// <summary>Short lower-case platform name, stored with every recovery point: <c>qemu</c>, <c>libvirt</c>, <c>image</c>.</summary>
    string Kind { get; }

    /// <summary>What <see cref="BeginRestoreAsync"/> understands beyond a new machine; the caller asks for nothing else.</summary>
    RestoreAbilities RestoreAbilities => RestoreAbilities.None;

    /// <summary>Stops, starts and retires machines; null: this platform does not.</summary>
    IMachineControl? Control => null;

    /// <summary>Whether captures wait at <see cref="CaptureRequest.Gate"/>; otherwise the caller gives none.</summary>
    bool HoldsAtGate => false;

    /// <summary>All machines this agent protects. A machine that cannot be reached is listed with its problem, never left out.</summary>
    ValueTask<IReadOnlyList<MachineSummary>> ListMachinesAsync(CancellationToken cancellationToken);

    /// <summary>
    /// The recovery points whose change tracking (dirty bitmaps, checkpoints) this machine still carries, in no
    /// particular order: committed ones, and those of a run that broke off and whose outcome the driver cannot know.
    /// </summary>
    ValueTask<IReadOnlyList<Id16>> ListTrackedPointsAsync(Id16 machine, CancellationToken cancellationToken);

    /// <summary>
    /// As <see cref="ListTrackedPointsAsync"/>, and what callers use. <paramref name="remembered"/> lets a driver whose platform gives its tracking no name
    /// of ours (change ids, reference points) find the points of it. Drivers whose tracking carries the point's name leave it as it is.
    /// </summary>
    /// <param name="remembered">Every point that the caller remembers of this machine, newest first, committed or not.</param>
    ValueTask<IReadOnlyList<Id16>> ListPointsByTokensAsync(Id16 machine, IReadOnlyList<RememberedPoint> remembered, CancellationToken cancellationToken) =>
        ListTrackedPointsAsync(machine, cancellationToken);

    /// <summary>
    /// Cleans up after runs that broke off, knowing which of the tracked points were committed: removes leftover
    /// exports, filters and fleece files, drops tracking of older committed points, folds the tracking of uncommitted
    /// points back into their base, so that no change is ever missed. Does nothing when all is settled. Never touches
    /// what another tool made.
    /// </summary>
    /// <returns>The point whose tracking is intact on at least one disk, to be used as base; null: the next read is a full one.</returns>
    ValueTask<Id16?> SettleAsync(Id16 machine, IReadOnlySet<Id16> committed, CancellationToken cancellationToken);

    /// <summary>
    /// As <see cref="SettleAsync"/>, and what callers use. Waits for work that the platform still does for an earlier end (<see cref="ICapture"/>).
    /// Tracking that neither has a name of ours nor belongs to a remembered point is another tool's, and stays.
    /// </summary>
    /// <param name="remembered">Every point that the caller remembers of this machine, newest first, committed or not.</param>
    ValueTask<Id16?> SettleByTokensAsync(Id16 machine, IReadOnlySet<Id16> committed, IReadOnlyList<RememberedPoint> remembered, CancellationToken cancellationToken) =>
        SettleAsync(machine, committed, cancellationToken);

    /// <summary>
    /// Lets every guest go on that a killed run left paused or frozen at its cut, and gives a machine that is off its disks
    /// back where a replacement was killed half-way. Called once when the agent starts, before
    /// anything else; needs nobody's answer and settles nothing. A machine that cannot be reached is passed over.
    /// </summary>
    ValueTask ReleaseGuestsAsync(CancellationToken cancellationToken);

    /// <summary>Predicts a capture without touching the machine.</summary>
    ValueTask<CapturePlan> PlanCaptureAsync(CaptureRequest request, CancellationToken cancellationToken);

    /// <summary>
    /// Cuts all disks of a machine at one instant. The guest runs on; the returned view does not change.
    /// On failure nothing is left behind on the machine.
    /// </summary>
    /// <exception cref="FaultException">
    /// <see cref="FaultReason.HypervisorUnavailable"/>, <see cref="FaultReason.Unsupported"/> (the machine has something
    /// that cannot be captured safely), <see cref="FaultReason.DeviceFull"/> (no space for the fleece).
    /// </exception>
    ValueTask<ICapture> BeginCaptureAsync(CaptureRequest request, CancellationToken cancellationToken);

    /// <summary>Begins to measure how the guest's writes fare; the machine may be captured meanwhile.</summary>
    /// <returns>Null: this platform does not tell, or the machine is not running.</returns>
    ValueTask<IGuestWriteMeter?> OpenWriteMeterAsync(Id16 machine, CancellationToken cancellationToken) => new((IGuestWriteMeter?)null);

    /// <summary>Compares a stored machine with this host; nothing is written.</summary>
    /// <returns>Findings; any with <see cref="FindingSeverity.Blocks"/> means that the restore would be refused.</returns>
    ValueTask<IReadOnlyList<RestoreFinding>> CheckRestoreAsync(RestoreRequest request, CancellationToken cancellationToken);

    /// <summary>Where the disks of a restore would lie; null: this platform cannot tell, and nothing can be measured.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.FailedPrecondition"/>: it cannot be looked at.</exception>
    ValueTask<IRestoreTarget?> FindTargetAsync(RestoreRequest request, CancellationToken cancellationToken) => ValueTask.FromResult<IRestoreTarget?>(null);

    /// <summary>Creates the empty disks of a restore, or opens the existing ones. Refused with the reason before a byte moves when the check blocks.</summary>
    ValueTask<IRestore> BeginRestoreAsync(RestoreRequest request, CancellationToken cancellationToken);
}
