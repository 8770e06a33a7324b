using VirtBackup.Core;

namespace VirtBackup.Hypervisors;

/// <summary>
/// Stops, starts and retires machines. Everything may be asked twice: what is done already succeeds again, and what was killed
/// half-way is finished. Safe for concurrent use across machines; the caller serialises what concerns one machine.
/// </summary>
public interface IMachineControl
{
    /// <summary>Whether the machine is this driver's, also one that is retired, or whose restore broke off.</summary>
    ValueTask<bool> KnowsAsync(Id16 machine, CancellationToken cancellationToken);

    /// <summary>
    /// Has the guest shut down. Afterwards none of its instructions runs any more until <see cref="StartAsync"/>, and the machine
    /// can still be captured.
    /// </summary>
    /// <exception cref="FaultException"><see cref="FaultReason.FailedPrecondition"/>: it did not, and runs on.</exception>
    ValueTask<StoppedMachine> StopAsync(Id16 machine, StopRequest request, CancellationToken cancellationToken);

    /// <summary>Starts a machine that is off; refused for one that is retired.</summary>
    /// <returns>It was running already.</returns>
    ValueTask<bool> StartAsync(Id16 machine, CancellationToken cancellationToken);

    /// <summary>
    /// Takes a machine that is off out of use, so that nobody starts it by mistake: it is listed no longer. What is retired can be brought
    /// back, or deleted.
    /// </summary>
    /// <exception cref="FaultException"><see cref="FaultReason.FailedPrecondition"/>: it runs.</exception>
    ValueTask<RetiredMachine> RetireAsync(Id16 machine, RetireRequest request, CancellationToken cancellationToken);
}

/// <param name="Timeout">For the guest to shut down by itself.</param>
/// <param name="Force">Afterwards it is stopped as by a power cut.</param>
/// <param name="PowerOff">It is stopped as by a power cut at once.</param>
public sealed record StopRequest(TimeSpan Timeout, bool Force, bool PowerOff);

/// <param name="Graceful">The guest shut down by itself, or was off.</param>
public sealed record StoppedMachine(bool Graceful, bool WasRunning);

/// <param name="Delete">Its disks go, too.</param>
/// <param name="Undo">It is brought back, and can be started.</param>
/// <param name="Folder">With <paramref name="Delete"/>: where it was restored to, even if the restore broke off; empty: where it is.</param>
public sealed record RetireRequest(bool Delete, bool Undo, string Folder);

/// <param name="Kept">Disks that could be neither renamed nor deleted, such as devices, or are still there under other names, and the folder of a machine that came here, when other files lie there, too.</param>
public sealed record RetiredMachine(bool Retired, IReadOnlyList<string> Removed, IReadOnlyList<string> Kept);
