using VirtBackup.Core;
using VirtBackup.Hypervisors.Guests;

namespace VirtBackup.Hypervisors.Qemu;

/// <summary>Lets a guest go on that a run held for its cut and could not let go: nobody else would. Works by the marks.</summary>
internal static class HeldGuest
{
    /// <param name="folder">Of the capture.</param>
    public static async Task ContinueAsync(QmpClient qmp, string folder, TimeProvider time, CancellationToken cancellationToken)
    {
        var marks = new FreezeMarks(folder);
        if (!marks.Has(FreezeMarks.Stopped))
        {
            return;
        }
        await new MigrationSettings(folder).CancelAsync(qmp, time, cancellationToken);
        // A capture's folder is QEMU's user's, who does not say which journal is believed.
        if (Moving.MoveNames.IsFolder(Path.GetFileName(folder)))
        {
            await Moving.MoveDecision.TakeAsync(qmp, folder, cancellationToken);
        }
        // Behind a save that came to its end the machine is as one that has gone to another host.
        if ((await qmp.ExecuteAsync("query-status", null, cancellationToken)).Text("status") is "paused" or "postmigrate" or "finish-migrate")
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
