using VirtBackup.Core;
using VirtBackup.Hypervisors.Libvirt.Native;
using VirtBackup.Hypervisors.Moving;

namespace VirtBackup.Hypervisors.Libvirt.Moving;

/// <summary>Ends a move, whatever became of it: libvirt's definition of the machine says which images are its own. May be repeated.</summary>
internal sealed class LibvirtMoveRecovery(LibvirtContext context, LibvirtConnection connection, Id16 machine)
{
    private static readonly TimeSpan PollInterval = TimeSpan.FromMilliseconds(50);

    /// <returns>Old images of moved disks that are still there; null: there was nothing to end.</returns>
    /// <exception cref="FaultException">It cannot be ended now; the journal stays.</exception>
    public async Task<IReadOnlyList<string>?> EndAsync(Action<string> log, CancellationToken cancellationToken)
    {
        if (MoveJournal.Find(context.Options.StateFolder, machine) is not { } journal)
        {
            return null;
        }
        foreach (var folder in ScratchFolder.FindAll(context.Options.FleeceFolder, machine))
        {
            await HeldDomain.ResumeAsync(connection, machine, folder.Marks, cancellationToken);
        }
        await EndJobsAsync(journal, cancellationToken);
        var disks = await connection.ChangeAsync(libvirt =>
        {
            using var domain = Domains.Find(libvirt, machine);
            var found = MovedDomain.FindMoved(domain, journal.Disks);
            MovedDomain.Retell(domain, [.. found.Where(static disk => disk.Moved)], log);
            return found;
        }, cancellationToken);
        journal.Enter(disks.Any(static disk => disk.Moved) ? MoveStage.Settled : MoveStage.Copying, disks);
        try
        {
            var kept = journal.RemoveSources(await ReadOthersAsync(journal, cancellationToken));
            journal.RemoveTargets();
            foreach (var folder in ScratchFolder.FindAll(context.Options.FleeceFolder, machine).Where(static folder => !folder.Marks.Any && !Directory.EnumerateFileSystemEntries(folder.Path).Any()))
            {
                folder.TryDelete();
            }
            var folders = journal.Disks.SelectMany(static disk => new[] { Path.GetDirectoryName(disk.OldPath)!, Path.GetDirectoryName(disk.NewPath)! });
            await connection.QueryAsync(libvirt => { StoragePools.Refresh(libvirt, folders); return true; }, cancellationToken);
            journal.Remove();
            return kept;
        }
        catch (Exception failure) when (failure is IOException or UnauthorizedAccessException)
        {
            throw new FaultException(FaultReason.FailedPrecondition, $"A move of the disks of {journal.MachineName} cannot be brought to its end: {failure.Message} It is tried again when the machine is used next.", failure);
        }
    }

    // A new image goes only when libvirt does not write to it any more, and cannot change over to it.
    private async Task EndJobsAsync(MoveJournal journal, CancellationToken cancellationToken)
    {
        var started = context.Time.GetTimestamp();
        while (await connection.ChangeAsync(libvirt => EndJobs(libvirt, journal), cancellationToken))
        {
            if (context.Time.GetElapsedTime(started) > context.Options.WorkTimeout)
            {
                throw new FaultException(FaultReason.HypervisorUnavailable,
                    $"libvirt does not end the copying of the disks of {journal.MachineName}. See 'virsh blockjob {journal.MachineName} DISK --info', and end it with '--abort'.");
            }
            await Task.Delay(PollInterval, context.Time, cancellationToken);
        }
    }

    /// <returns>Some were there.</returns>
    private bool EndJobs(ConnectionHandle libvirt, MoveJournal journal)
    {
        using var domain = Domains.Find(libvirt, machine);
        if (!Domains.IsActive(domain))
        {
            return false;
        }
        var mirrors = MovedDomain.ReadMirrors(DomainDocument.Parse(LibvirtValues.TakeText(LibvirtCalls.GetXml(domain, 0))));
        var copied = journal.Disks.Where(disk => mirrors.GetValueOrDefault(disk.Node)?.Path == disk.NewPath).ToList();
        foreach (var disk in copied)
        {
            // A failure means that it is ending already, or that it cannot: the next look tells.
            _ = LibvirtBlockJobs.End(domain, disk.Node, 0);
        }
        return copied.Count > 0;
    }

    // An old image that another disk builds on stays.
    private async Task<IReadOnlySet<string>> ReadOthersAsync(MoveJournal journal, CancellationToken cancellationToken)
    {
        var view = await connection.QueryAsync(libvirt => Domains.Read(libvirt, machine), cancellationToken);
        return view.Disks.SelectMany(static disk => disk.Layers).Intersect(journal.Disks.Select(static disk => disk.OldPath), StringComparer.Ordinal).ToHashSet(StringComparer.Ordinal);
    }
}
