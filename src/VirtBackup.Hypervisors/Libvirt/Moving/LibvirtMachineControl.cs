using VirtBackup.Core;
using VirtBackup.Hypervisors.Libvirt.Native;
using VirtBackup.Hypervisors.Moving;
using VirtBackup.Hypervisors.Qemu.Moving;

namespace VirtBackup.Hypervisors.Libvirt.Moving;

/// <summary>Stops, starts and retires machines of libvirt. A retired one is undefined, and its definition kept.</summary>
/// <param name="find">The connection that has a machine, whatever its name or only if it is served; null: none has.</param>
/// <param name="connections">Machines that none has are defined on the first.</param>
internal sealed class LibvirtMachineControl(
    LibvirtContext context, Func<Id16, bool, CancellationToken, Task<LibvirtConnection?>> find, IReadOnlyList<LibvirtConnection> connections) : IMachineControl
{
    // VIR_DOMAIN_UNDEFINE_: MANAGED_SAVE is left out, so that a saved state is never thrown away unseen.
    private const uint ForgetSnapshots = 2, ForgetVariables = 4, KeepVariables = 8, ForgetCheckpoints = 16, Always = ForgetSnapshots | ForgetCheckpoints;
    private static readonly TimeSpan PollInterval = TimeSpan.FromMilliseconds(250);

    private readonly MovingRecords _records = context.Moving;

    public async ValueTask<bool> KnowsAsync(Id16 machine, CancellationToken cancellationToken) =>
        _records.FindRetired(machine) is not null || _records.FindAdopted(machine) is not null || await FindAsync(machine, cancellationToken) is not null;

    public async ValueTask<StoppedMachine> StopAsync(Id16 machine, StopRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        if (await FindAsync(machine, cancellationToken) is not { } connection || !await IsActiveAsync(connection, machine, cancellationToken))
        {
            return new StoppedMachine(Graceful: true, WasRunning: false);
        }
        if (!request.PowerOff)
        {
            // Whoever has a machine shut down retires it next: what that would be refused for is better known while its guest runs.
            await connection.QueryAsync(libvirt => FlagsOf(libvirt, Domains.Read(libvirt, machine), keeps: true), cancellationToken);
            await connection.ChangeAsync(libvirt => With(libvirt, machine, static domain => LibvirtCalls.Shutdown(domain, 0)), cancellationToken);
            var begun = context.Time.GetTimestamp();
            while (context.Time.GetElapsedTime(begun) < request.Timeout)
            {
                if (!await IsActiveAsync(connection, machine, cancellationToken))
                {
                    return new StoppedMachine(Graceful: true, WasRunning: true);
                }
                await Task.Delay(PollInterval, context.Time, cancellationToken);
            }
            if (!request.Force)
            {
                throw new FaultException(FaultReason.FailedPrecondition,
                    $"The guest of machine {machine.ToUuidString()} did not shut down within {request.Timeout.TotalSeconds:0} s and runs on. Shut it down from inside, or allow its power to be cut.");
            }
        }
        // It may have ended in this moment.
        await connection.ChangeAsync(libvirt => With(libvirt, machine, static domain => LibvirtCalls.IsActive(domain) == 1 ? LibvirtCalls.Destroy(domain) : 0), cancellationToken);
        return new StoppedMachine(Graceful: false, WasRunning: true);
    }

    public async ValueTask<bool> StartAsync(Id16 machine, CancellationToken cancellationToken)
    {
        if (await FindRetiredAsync(machine, cancellationToken) is { } retired)
        {
            throw new FaultException(FaultReason.FailedPrecondition, $"{retired.Name} was retired on this host, since it moved to another one: it is not started here.");
        }
        var connection = await FindAsync(machine, cancellationToken) ?? throw Unknown(machine);
        if (await IsActiveAsync(connection, machine, cancellationToken))
        {
            return true;
        }
        _ = Adoption.TakeStamps(_records, machine);
        await connection.ChangeAsync(libvirt => With(libvirt, machine, LibvirtCalls.Start), CancellationToken.None);
        return false;
    }

    public async ValueTask<RetiredMachine> RetireAsync(Id16 machine, RetireRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        if (request.Undo)
        {
            return await FindRetiredAsync(machine, cancellationToken) is not { } former ? new RetiredMachine(false, [], []) : await ReinstateAsync(machine, former, cancellationToken);
        }
        if (!request.Delete)
        {
            var record = await FindRetiredAsync(machine, cancellationToken) ?? await RecordAsync(machine, cancellationToken);
            await UndefineAsync(machine, keeps: true, cancellationToken);
            return new RetiredMachine(true, [], RetiredFiles.ListRenamed(RetiredFiles.Rename(record, _records)));
        }
        var retired = _records.FindRetired(machine);
        var adopted = _records.FindAdopted(machine);
        if (retired is { Deleted: false })
        {
            QemuMonitors.RequireUnused(machine, retired, adopted?.Folder);
            var removed = RetiredFiles.Delete(retired, _records);
            removed.AddRange(await RetiredTpm.DeleteAsync(context, connections, machine, retired, cancellationToken));
            // What has an old name of a retired disk is not the machine's any more.
            removed.AddRange(adopted is null ? [] : await DeleteFolderAsync(machine, adopted, [], retired.Files.Select(static file => file.From), cancellationToken));
            _records.Write(retired with { Deleted = true, Renamed = true });
            _records.RemoveAdopted(machine);
            return new RetiredMachine(true, removed, MachineFolder.ListLeft(adopted));
        }
        if (retired is not null || adopted is null || (request.Folder.Length > 0 && request.Folder != adopted.Folder))
        {
            return new RetiredMachine(true, [], []);
        }
        var disks = await FindAsync(machine, cancellationToken) is { } connection
            ? await connection.QueryAsync(libvirt => ListDisks(Domains.Read(libvirt, machine)), cancellationToken) : [];
        await UndefineAsync(machine, keeps: false, cancellationToken);
        var gone = await DeleteFolderAsync(machine, adopted, disks, [], cancellationToken);
        _records.RemoveAdopted(machine);
        return new RetiredMachine(true, gone, MachineFolder.ListLeft(adopted));
    }

    private async Task<IReadOnlyList<string>> DeleteFolderAsync(Id16 machine, AdoptedMachine adopted, IEnumerable<string> disks, IEnumerable<string> former, CancellationToken cancellationToken)
    {
        var others = new HashSet<string>(KnownPlaces.ListOthers(context.Options.StateFolder, machine).Concat(former), StringComparer.Ordinal);
        foreach (var connection in connections)
        {
            others.UnionWith(await connection.QueryAsync(libvirt => ListDisksOfOthers(libvirt, machine), cancellationToken));
        }
        return MachineFolder.Delete(adopted.Folder, [.. adopted.Files ?? [], .. disks], others);
    }

    private static List<string> ListDisks(DomainView view) =>
        [.. view.Document.Disks.Where(static disk => disk.SkipReason is null).Select(static disk => disk.Path).OfType<string>()];

    private static List<string> ListDisksOfOthers(ConnectionHandle libvirt, Id16 machine)
    {
        var disks = new List<string>();
        foreach (var (uuid, _) in Domains.List(libvirt).Where(known => known.Uuid != machine))
        {
            using var domain = Domains.TryFind(libvirt, uuid);
            disks.AddRange(domain is null ? [] : DomainDocument.Parse(LibvirtValues.TakeText(LibvirtCalls.GetXml(domain, 0))).Disks.SelectMany(static disk => disk.Layers));
        }
        return disks;
    }

    private async Task<RetiredRecord> RecordAsync(Id16 machine, CancellationToken cancellationToken)
    {
        var connection = await FindAsync(machine, cancellationToken) ?? throw Unknown(machine);
        // Also whether it can be undefined so that it can come back, before anything says that it was retired.
        var (view, _) = await connection.QueryAsync(libvirt =>
        {
            var present = Domains.Read(libvirt, machine);
            RequireOff(present);
            return (present, FlagsOf(libvirt, present, keeps: true));
        }, cancellationToken);
        if (view.HasSavedState)
        {
            throw new FaultException(FaultReason.FailedPrecondition, $"The machine {view.Document.Name} has a saved state, which would be lost. Start it and shut it down, or drop the state (virsh managedsave-remove {view.Document.Name}).");
        }
        var files = RetiredFiles.Choose(ListDisks(view));
        var record = new RetiredRecord(machine.ToString(), view.Document.Name, files, Deleted: false, view.Xml);
        _records.Write(record);
        return record;
    }

    private async Task<RetiredMachine> ReinstateAsync(Id16 machine, RetiredRecord record, CancellationToken cancellationToken)
    {
        RetiredFiles.NameBack(record);
        var connection = await FindAsync(machine, cancellationToken) ?? connections[0];
        await connection.ChangeAsync(libvirt =>
        {
            using var domain = LibvirtValues.Require(LibvirtCalls.Define(libvirt, record.Definition!, 0));
            return true;
        }, cancellationToken);
        _records.RemoveRetired(machine);
        return new RetiredMachine(false, [], [.. record.Files.Select(static file => file.From)]);
    }

    // Of a machine whose disks were deleted nothing is left: one that libvirt has since is another, or was restored.
    private async Task<RetiredRecord?> FindRetiredAsync(Id16 machine, CancellationToken cancellationToken) =>
        _records.FindRetired(machine) is { } retired && !(retired.Deleted && await FindAsync(machine, cancellationToken) is not null) ? retired : null;

    // What the agent took over or retired is its own, whatever the names that it serves.
    private Task<LibvirtConnection?> FindAsync(Id16 machine, CancellationToken cancellationToken) =>
        find(machine, _records.FindRetired(machine) is { Deleted: false } || _records.FindAdopted(machine) is not null, cancellationToken);

    private async Task UndefineAsync(Id16 machine, bool keeps, CancellationToken cancellationToken)
    {
        if (await FindAsync(machine, cancellationToken) is not { } connection)
        {
            return;
        }
        await connection.ChangeAsync(libvirt =>
        {
            using var domain = Domains.TryFind(libvirt, machine);
            if (domain is not null)
            {
                var view = Domains.Read(domain, new HashSet<string>());
                RequireOff(view);
                LibvirtValues.Require(LibvirtCalls.Undefine(domain, FlagsOf(libvirt, view, keeps)));
            }
            return true;
        }, cancellationToken);
    }

    private static uint FlagsOf(ConnectionHandle libvirt, DomainView view, bool keeps)
    {
        LibvirtValues.Require(LibvirtCalls.GetVersion(libvirt, out var version));
        return Always | (keeps ? KeepVariables : ForgetVariables) | RetiredTpm.ChooseFlags(view.Document, version, keeps);
    }

    private static Task<bool> IsActiveAsync(LibvirtConnection connection, Id16 machine, CancellationToken cancellationToken) =>
        connection.QueryAsync(libvirt => Domains.IsActive(libvirt, machine), cancellationToken);

    private static bool With(ConnectionHandle libvirt, Id16 machine, Func<DomainHandle, int> call)
    {
        using var domain = Domains.Find(libvirt, machine);
        LibvirtValues.Require(call(domain));
        return true;
    }

    private static void RequireOff(DomainView view)
    {
        if (view.Active)
        {
            throw new FaultException(FaultReason.FailedPrecondition, $"The machine {view.Document.Name} is running on this host. Stop it first.");
        }
    }

    private static FaultException Unknown(Id16 machine) => new(FaultReason.NotFound, $"libvirt on this host has no machine {machine.ToUuidString()} that this agent serves.");
}
