using System.Text;
using VirtBackup.Core;
using VirtBackup.Hypervisors.Moving;

namespace VirtBackup.Hypervisors.Qemu.Moving;

/// <summary>Stops, starts and retires QEMU machines; those that came to this host are removed with their folder.</summary>
internal sealed class QemuMachineControl(QemuDriverContext context, MachineRoster roster, MovingRecords records) : IMachineControl
{
    public ValueTask<bool> KnowsAsync(Id16 machine, CancellationToken cancellationToken) => ValueTask.FromResult(roster.Knows(machine));

    public async ValueTask<StoppedMachine> StopAsync(Id16 machine, StopRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        if (records.FindRetired(machine) is not null || roster.FindAny(machine) is not { } target)
        {
            // Retired, or not restored to the end: neither can run.
            return roster.Knows(machine) ? new StoppedMachine(Graceful: true, WasRunning: false) : throw Unknown(machine);
        }
        return await new MachinePower(context, target).StopAsync(request, cancellationToken);
    }

    public async ValueTask<bool> StartAsync(Id16 machine, CancellationToken cancellationToken)
    {
        var target = roster.FindAny(machine) ?? throw Unknown(machine);
        if (records.FindRetired(machine) is not null)
        {
            throw new FaultException(FaultReason.FailedPrecondition, $"{target.Name} was retired on this host, since it moved to another one: it is not started here.");
        }
        // What is known of its disks may be what they were before a move that broke off.
        await new MoveRecovery(context, target).EndAsync(cancellationToken);
        return await new MachinePower(context, target).StartAsync(() => PrepareLaunch(target), cancellationToken);
    }

    public async ValueTask<RetiredMachine> RetireAsync(Id16 machine, RetireRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        if (request.Undo)
        {
            return Reinstate(machine);
        }
        var retired = records.FindRetired(machine);
        if (!request.Delete)
        {
            retired ??= await RetireAsync(machine, cancellationToken);
            return new RetiredMachine(true, [], RetiredFiles.ListRenamed(RetiredFiles.Rename(retired, records)));
        }
        if (retired is { Deleted: false })
        {
            return DeleteRetired(machine, retired);
        }
        return retired is null && records.FindAdopted(machine) is { } adopted && (request.Folder.Length == 0 || request.Folder == adopted.Folder)
            ? await DeleteAdoptedAsync(machine, adopted, cancellationToken)
            : new RetiredMachine(true, [], []);
    }

    private async Task<RetiredRecord> RetireAsync(Id16 machine, CancellationToken cancellationToken)
    {
        var target = roster.FindAny(machine) ?? throw Unknown(machine);
        await new MoveRecovery(context, target).EndAsync(cancellationToken);
        await new MachinePower(context, target).EndAsync(cancellationToken);
        var seen = LastSeen.Read(context.Options.StateFolder, machine)
            ?? throw new FaultException(FaultReason.FailedPrecondition, $"Where the disks of {target.Name} are is not known: it was never backed up by this agent.");
        var files = RetiredFiles.Choose(seen.Disks.Where(static disk => disk.Captured).Select(disk => Path.GetFullPath(disk.File, seen.WorkingDirectory)));
        var record = new RetiredRecord(machine.ToString(), target.Name, files, Deleted: false);
        records.Write(record);
        return record;
    }

    private RetiredMachine Reinstate(Id16 machine)
    {
        if (records.FindRetired(machine) is not { } record)
        {
            return new RetiredMachine(false, [], []);
        }
        RetiredFiles.NameBack(record);
        records.RemoveRetired(machine);
        return new RetiredMachine(false, [], [.. record.Files.Select(static file => file.From)]);
    }

    private RetiredMachine DeleteRetired(Id16 machine, RetiredRecord record)
    {
        var adopted = records.FindAdopted(machine);
        QemuMonitors.RequireUnused(machine, record, adopted?.Folder);
        var removed = RetiredFiles.Delete(record, records);
        if (adopted is not null)
        {
            // What has an old name of a retired disk is not the machine's any more.
            removed.AddRange(DeleteFolder(machine, adopted, record.Files.Select(static file => file.From)));
        }
        records.Write(record with { Deleted = true, Renamed = true });
        records.RemoveAdopted(machine);
        LastSeen.Remove(context.Options.StateFolder, machine);
        return new RetiredMachine(true, removed, MachineFolder.ListLeft(adopted));
    }

    private async Task<RetiredMachine> DeleteAdoptedAsync(Id16 machine, AdoptedMachine adopted, CancellationToken cancellationToken)
    {
        var target = new QemuMachine(machine, adopted.Name, adopted.QmpSocket);
        await new MoveRecovery(context, target).EndAsync(cancellationToken);
        await new MachinePower(context, target).EndAsync(cancellationToken);
        var removed = DeleteFolder(machine, adopted, []);
        if (adopted.Complete)
        {
            LastSeen.Remove(context.Options.StateFolder, machine);
        }
        records.RemoveAdopted(machine);
        return new RetiredMachine(true, removed, MachineFolder.ListLeft(adopted));
    }

    private IReadOnlyList<string> DeleteFolder(Id16 machine, AdoptedMachine adopted, IEnumerable<string> former)
    {
        var seen = adopted.Complete ? LastSeen.Read(context.Options.StateFolder, machine) : null;
        var disks = seen?.Disks.Where(static disk => disk.Captured).Select(disk => Path.GetFullPath(disk.File, seen.WorkingDirectory));
        // Of moves and restores since.
        var later = MovedMachine.FilesOf(adopted.Name, Path.Combine(adopted.Folder, "disk"));
        return MachineFolder.Delete(adopted.Folder,
            [.. adopted.Files ?? [], later.Script, later.Record, later.Log, adopted.Script, Path.ChangeExtension(adopted.Script, ".json"), adopted.Log, adopted.QmpSocket, adopted.GuestAgentSocket ?? "", .. disks ?? [], seen?.Tpm is { } tpm ? tpm.StateFolder + "/" : ""],
            [.. KnownPlaces.ListOthers(context.Options.StateFolder, machine), .. former]);
    }

    private (string Script, string Log) PrepareLaunch(QemuMachine machine)
    {
        _ = Adoption.TakeStamps(records, machine.Uuid);
        if (records.FindAdopted(machine.Uuid) is { Complete: true } adopted)
        {
            return (adopted.Script, adopted.Log);
        }
        var seen = LastSeen.Read(context.Options.StateFolder, machine.Uuid)
            ?? throw new FaultException(FaultReason.FailedPrecondition, $"How {machine.Name} is started is not known: it was never backed up by this agent. Start it as you started it before.");
        var script = Path.Combine(context.Options.StateFolder!, $"start-{machine.Uuid}.sh");
        var text = new StringBuilder("#!/bin/sh\n# Starts the machine as it was started when it was last backed up.\ncd ").Append(ShellWord.Quote(seen.WorkingDirectory)).Append(" || exit 1\nexec ").Append(ShellWord.Quote(seen.Executable));
        foreach (var argument in ArgvRewriter.ForAnotherStart(seen.Arguments))
        {
            text.Append(' ').Append(ShellWord.Quote(argument));
        }
        DurableFile.Write(script, Encoding.UTF8.GetBytes(text.Append('\n').ToString()));
        if (!OperatingSystem.IsWindows())
        {
            File.SetUnixFileMode(script, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        }
        return (script, Path.ChangeExtension(script, ".log"));
    }

    private static FaultException Unknown(Id16 machine) => new(FaultReason.NotFound, $"This host has no machine {machine.ToUuidString()}.");
}
