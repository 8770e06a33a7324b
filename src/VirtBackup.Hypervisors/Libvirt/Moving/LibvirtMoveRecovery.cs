using VirtBackup.Core;
using VirtBackup.Hypervisors.Libvirt.Native;
using VirtBackup.Hypervisors.Moving;

namespace VirtBackup.Hypervisors.Libvirt.Moving;

/// <summary>Ends a move, whatever became of it: libvirt's definition of the machine says which images are its own. May be repeated.</summary>
internal sealed class LibvirtMoveRecovery(LibvirtContext context, LibvirtConnection connection, Id16 machine)
{
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
        await connection.ChangeAsync(libvirt => EndJobs(libvirt, journal), cancellationToken);
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

    private bool EndJobs(ConnectionHandle libvirt, MoveJournal journal)
    {
        using var domain = Domains.Find(libvirt, machine);
        if (LibvirtValues.Require(LibvirtCalls.IsActive(domain)) == 0)
        {
            return false;
        }
        var mirrors = MovedDomain.ReadMirrors(DomainDocument.Parse(LibvirtValues.TakeText(LibvirtCalls.GetXml(domain, 0))));
        foreach (var disk in journal.Disks.Where(disk => mirrors.GetValueOrDefault(disk.Node)?.Path == disk.NewPath))
        {
            // One that has just ended is refused; whether it is gone is seen by the definition.
            _ = LibvirtBlockJobs.End(domain, disk.Node, 0);
        }
        return true;
    }

    // An old image that another disk builds on stays.
    private async Task<IReadOnlySet<string>> ReadOthersAsync(MoveJournal journal, CancellationToken cancellationToken)
    {
        var view = await connection.QueryAsync(libvirt => Domains.Read(libvirt, machine), cancellationToken);
        return view.Disks.SelectMany(static disk => disk.Layers).Intersect(journal.Disks.Select(static disk => disk.OldPath), StringComparer.Ordinal).ToHashSet(StringComparer.Ordinal);
    }
}
