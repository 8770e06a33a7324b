using VirtBackup.Core;

namespace VirtBackup.Hypervisors.Guests;

/// <summary>Undoes, by the marks that were left, what another process did inside a guest: thaw, then the hook that belongs behind it.</summary>
internal static class MarkedThaw
{
    /// <exception cref="FaultException"><see cref="FaultReason.HypervisorUnavailable"/>: the guest agent does not answer (yet).</exception>
    public static async Task RunAsync(IGuestAgent agent, FreezeMarks marks, TimeSpan timeout, TimeProvider time, Action<string> log, CancellationToken cancellationToken)
    {
        // While it is frozen the agent runs no hook: the thaw comes first, needed or not.
        var count = await agent.ThawAsync(timeout, cancellationToken);
        marks.Remove(FreezeMarks.Frozen);
        log($"{count} file systems of the guest were thawed.");
        if (marks.FindAfterThaw() is { } hook)
        {
            await GuestHookRun.RunAsync(agent, hook, "after the thaw", time, log, cancellationToken);
        }
        marks.Remove(FreezeMarks.Hooked);
    }
}
