using VirtBackup.Core;
using VirtBackup.Hypervisors.Guests;
using VirtBackup.Hypervisors.Images;
using VirtBackup.Hypervisors.Moving;

namespace VirtBackup.Hypervisors.Libvirt;

/// <summary>What the parts of the driver share, and the operations that several of them need.</summary>
internal sealed record LibvirtContext(LibvirtOptions Options, TimeProvider Time, IEntropy Entropy, ProcessRunner Processes)
{
    private static readonly TimeSpan SavedInterval = TimeSpan.FromMilliseconds(100);
    private static readonly TimeSpan ThawTimeout = TimeSpan.FromSeconds(20);

    public ImageTools ImageTools => new() { QemuImg = Options.QemuImg, QemuNbd = Options.QemuNbd, RequestsInFlight = Options.RequestsInFlight, Time = Time };

    /// <summary>Of machines that come and go.</summary>
    public MovingRecords Moving => new(Options.StateFolder);

    public StateRoom StateRoom { get; } = new();

    public DomainJobs JobsOf(LibvirtConnection connection) => new(connection, Options, Time);

    /// <summary>Ends what a killed run left: the freeze, its job, its folders.</summary>
    public async Task ReleaseAsync(LibvirtConnection connection, Id16 machine, CancellationToken cancellationToken)
    {
        var folders = ScratchFolder.FindAll(Options.FleeceFolder, machine);
        foreach (var folder in folders.Where(folder => folder.Marks.Any))
        {
            await ReleaseSavedAsync(connection, machine, folder, cancellationToken);
            await ReleaseGuestAsync(connection, machine, folder.Marks, cancellationToken);
        }
        await JobsOf(connection).EndOursAsync(machine, cancellationToken);
        foreach (var folder in folders.Where(folder => !folder.Marks.Has(FreezeMarks.Saved)))
        {
            folder.TryDelete();
        }
    }

    // What a machine was saved to is all that is left of its memory.
    private async Task ReleaseSavedAsync(LibvirtConnection connection, Id16 machine, ScratchFolder folder, CancellationToken cancellationToken)
    {
        for (var started = Time.GetTimestamp(); !await DomainSave.TryReleaseAsync(connection, machine, folder.Path, static _ => { }, cancellationToken);)
        {
            if (Time.GetElapsedTime(started) > Options.WorkTimeout)
            {
                throw new FaultException(FaultReason.HypervisorUnavailable, $"libvirt does not end the saving of the machine {machine.ToUuidString()}. See 'virsh domjobinfo', and end it with 'virsh domjobabort'.");
            }
            await Task.Delay(SavedInterval, Time, cancellationToken);
        }
    }

    private async Task ReleaseGuestAsync(LibvirtConnection connection, Id16 machine, FreezeMarks marks, CancellationToken cancellationToken)
    {
        await HeldDomain.ResumeAsync(connection, machine, marks, cancellationToken);
        if (!marks.Any)
        {
            return;
        }
        try
        {
            await using var agent = new DomainAgent(connection, machine, Time);
            await MarkedThaw.RunAsync(agent, marks, ThawTimeout, Time, static _ => { }, cancellationToken);
        }
        catch (FaultException)
        {
            // The guest was restarted, or runs no agent any more: then nothing is frozen.
        }
    }

    /// <summary>Keeps the checkpoint of the newest committed point and deletes the other ones of ours.</summary>
    /// <returns>The kept point, when at least one disk can be read by changes since it.</returns>
    public async Task<Id16?> SettleAsync(LibvirtConnection connection, Id16 machine, Func<Id16, bool> committed, CancellationToken cancellationToken)
    {
        var (view, checkpoints) = await ReadAsync(connection, machine, new HashSet<string>(), cancellationToken);
        var keep = TrackingChoice.Keep(checkpoints, committed);
        if (!view.Active)
        {
            return await new OfflineTracking(this, connection).SettleAsync(view, checkpoints, keep, cancellationToken);
        }
        if (checkpoints.Count == 0)
        {
            await DeleteOrphansAsync(connection, machine, view, cancellationToken);
        }
        var obsolete = checkpoints.Where(checkpoint => checkpoint != keep).ToList();
        if (obsolete.Count > 0)
        {
            // libvirt deletes none while a job runs, and would say so less clearly.
            await JobsOf(connection).RequireIdleAsync(machine, cancellationToken);
        }
        foreach (var checkpoint in obsolete)
        {
            await connection.ChangeAsync(libvirt =>
            {
                using var domain = Domains.Find(libvirt, machine);
                Checkpoints.Delete(domain, checkpoint.Point, view.Document.Disks);
                return true;
            }, cancellationToken);
        }
        return keep is not null && TrackingChoice.IsUseful(keep, view.Disks) ? keep.Point : null;
    }

    public static Task<(DomainView View, List<CheckpointRecord> Checkpoints)> ReadAsync(
        LibvirtConnection connection, Id16 machine, IReadOnlySet<string> excluded, CancellationToken cancellationToken) =>
        connection.QueryAsync(libvirt =>
        {
            using var domain = Domains.Find(libvirt, machine);
            var view = Domains.Read(domain, excluded);
            return (view, Domains.ReadCheckpoints(domain, measured: view.Active));
        }, cancellationToken);

    // A machine that was undefined and defined again has lost its checkpoints; their bitmaps record on in its images.
    private async Task DeleteOrphansAsync(LibvirtConnection connection, Id16 machine, DomainView view, CancellationToken cancellationToken)
    {
        var inspector = new BitmapInspector(Options.QemuImg, Processes);
        foreach (var disk in view.Disks.Where(disk => disk.KeepsBitmaps && disk.Captured))
        {
            foreach (var point in await inspector.FindPointsAsync(disk.Layers, cancellationToken))
            {
                await connection.ChangeAsync(libvirt =>
                {
                    using var domain = Domains.Find(libvirt, machine);
                    Checkpoints.DeleteBitmap(domain, point, view.Document.Disks, disk.Target);
                    return true;
                }, cancellationToken);
            }
        }
    }
}
