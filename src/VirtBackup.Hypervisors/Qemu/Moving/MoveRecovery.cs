using System.Text.Json.Nodes;
using VirtBackup.Core;
using VirtBackup.Hypervisors.Moving;

namespace VirtBackup.Hypervisors.Qemu.Moving;

/// <summary>
/// Ends a move, whatever became of it: the normal end, and what a killed run left. A move that did not come to its change-over is
/// undone; one that did is finished. May be repeated.
/// </summary>
internal sealed class MoveRecovery(QemuDriverContext context, QemuMachine machine)
{
    private readonly PatientMonitor monitor = new(context, machine);

    /// <returns>Old images of moved disks that are still there; null: there was nothing to end.</returns>
    /// <exception cref="FaultException">It cannot be ended now; the journal stays.</exception>
    public async Task<IReadOnlyList<string>?> EndAsync(CancellationToken cancellationToken)
    {
        if (MoveJournal.Find(context.Options.StateFolder, machine.Uuid) is not { } journal)
        {
            return null;
        }
        var inUse = new HashSet<string>(StringComparer.Ordinal);
        if (await QemuMonitors.IsListeningAsync(machine, cancellationToken))
        {
            await using var qmp = await monitor.OpenAsync(cancellationToken);
            await context.ReleaseGuestAsync(qmp, machine, cancellationToken);
            journal = MoveJournal.Find(context.Options.StateFolder, machine.Uuid) ?? journal;
            if (journal.Stage == MoveStage.Pivoting)
            {
                await MoveDecision.TakeAsync(qmp, journal, cancellationToken);
            }
            await EndJobsAsync(qmp, journal, cancellationToken);
            await CloseNodesAsync(qmp, journal, cancellationToken);
            inUse = await ReadUsedFilesAsync(qmp, cancellationToken);
        }
        // Else the process has ended. Before the journal was settled, the guest had written nothing to the new images alone.
        try
        {
            return Finish(journal, inUse);
        }
        catch (Exception failure) when (failure is IOException or UnauthorizedAccessException)
        {
            throw new FaultException(FaultReason.FailedPrecondition, $"A move of the disks of {machine.Name} cannot be brought to its end: {failure.Message} It is tried again when the machine is used next.", failure);
        }
    }

    private IReadOnlyList<string> Finish(MoveJournal journal, HashSet<string> inUse)
    {
        IReadOnlyList<string> kept = [];
        var moved = journal.Disks.Where(static disk => disk.Moved).ToList();
        if (journal.Stage == MoveStage.Settled && moved.Count > 0)
        {
            MovedDisks.Remember(context.Options.StateFolder!, machine.Uuid, moved);
            var record = new MovedMachine(context, machine);
            record.Remember(moved);
            kept = journal.RemoveSources(inUse);
            record.WriteLaunch(moved);
        }
        journal.RemoveTargets();
        foreach (var folder in CaptureRemoval.FindFolders(context.Options.FleeceFolder, machine.Uuid).Where(static folder => MoveNames.IsFolder(Path.GetFileName(folder))))
        {
            CaptureFolder.Delete(folder);
        }
        journal.Remove();
        return kept;
    }

    private static async Task EndJobsAsync(QmpClient qmp, MoveJournal journal, CancellationToken cancellationToken)
    {
        foreach (var (job, status) in await MoveDecision.ReadJobsAsync(qmp, journal.Disks.Select(static disk => disk.Job).ToHashSet(StringComparer.Ordinal), cancellationToken))
        {
            if (status != "concluded")
            {
                await MoveDecision.TryAllAsync(qmp, [MoveDecision.Cancel(job)], cancellationToken);
                await MoveDecision.WaitForEndAsync(qmp, job, cancellationToken);
            }
            await qmp.ExecuteAsync("job-dismiss", new JsonObject { ["id"] = job }, cancellationToken);
        }
    }

    // Of a disk that moved the old image, of one that did not the new one, and what only they were made of.
    private static async Task CloseNodesAsync(QmpClient qmp, MoveJournal journal, CancellationToken cancellationToken)
    {
        var nodes = await BlockInventory.ReadNodesAsync(qmp, cancellationToken);
        foreach (var disk in journal.Disks)
        {
            var unused = disk.Moved ? disk.Node : disk.Job;
            var file = nodes.GetValueOrDefault(unused).FindText("file");
            string[] related = [unused, .. nodes.Where(node => node.Key != unused && file is { Length: > 0 } && node.Value.FindText("file") == file).Select(static node => node.Key)];
            foreach (var node in related.Where(node => nodes.ContainsKey(node) && !node.StartsWith('#')))
            {
                try
                {
                    await qmp.ExecuteAsync("blockdev-del", new JsonObject { ["node-name"] = node }, cancellationToken);
                }
                catch (FaultException fault) when (fault.Reason == FaultReason.FailedPrecondition)
                {
                    // Somebody else uses it (another disk builds on it, another tool reads it): its file stays, too.
                }
            }
        }
    }

    private static async Task<HashSet<string>> ReadUsedFilesAsync(QmpClient qmp, CancellationToken cancellationToken)
    {
        var process = await QemuProcess.ReadAsync(qmp.ReadPeer(), qmp.SocketPath, cancellationToken);
        return [.. (await BlockInventory.ReadNodesAsync(qmp, cancellationToken)).Values.Select(static node => node.FindText("file")).Where(static file => file is { Length: > 0 })
            .Select(file => Path.GetFullPath(file!, process.WorkingDirectory))];
    }
}
