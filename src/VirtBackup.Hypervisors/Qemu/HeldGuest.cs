using VirtBackup.Core;
using VirtBackup.Hypervisors.Guests;

namespace VirtBackup.Hypervisors.Qemu;

/// <summary>Lets a guest go on that a run held for its cut and could not let go: nobody else would. Works by the marks.</summary>
internal static class HeldGuest
{
    public static async Task ContinueAsync(QmpClient qmp, FreezeMarks marks, CancellationToken cancellationToken)
    {
        if (!marks.Has(FreezeMarks.Stopped))
        {
            return;
        }
        await Moving.MoveDecision.TakeAsync(qmp, marks.Folder, cancellationToken);
        if ((await qmp.ExecuteAsync("query-status", null, cancellationToken)).Text("status") == "paused")
        {
            await qmp.ExecuteAsync("cont", null, cancellationToken);
        }
        marks.Remove(FreezeMarks.Stopped);
    }

    /// <exception cref="FaultException"><see cref="FaultReason.HypervisorUnavailable"/>: the guest agent does not answer (yet).</exception>
    public static async Task ThawAsync(
        string? agentSocket, FreezeMarks marks, TimeProvider time, IEntropy entropy, TimeSpan timeout, Action<string> log, CancellationToken cancellationToken)
    {
        if (agentSocket is null || !(marks.Has(FreezeMarks.Frozen) || marks.Has(FreezeMarks.Hooked)))
        {
            return;
        }
        await using var agent = await GuestAgentClient.ConnectAsync(agentSocket, time, entropy, timeout, cancellationToken);
        await MarkedThaw.RunAsync(agent, marks, timeout, time, log, cancellationToken);
    }
}
