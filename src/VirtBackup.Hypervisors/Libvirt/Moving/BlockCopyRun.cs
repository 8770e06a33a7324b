using System.Xml.Linq;
using VirtBackup.Core;
using VirtBackup.Hypervisors.Libvirt.Native;
using VirtBackup.Hypervisors.Moving;

namespace VirtBackup.Hypervisors.Libvirt.Moving;

/// <summary>
/// Copies the disks of a running machine by libvirt's block copy, and lets the machine change over to all of them while it is suspended.
/// libvirt carries bitmaps over, and changes the machine's definition with it.
/// </summary>
internal sealed class BlockCopyRun(LibvirtContext context, LibvirtConnection connection, StorageMoveRequest request, MoveJournal journal)
{
    private static readonly TimeSpan PollInterval = TimeSpan.FromMilliseconds(250);
    private static readonly TimeSpan PauseLimit = TimeSpan.FromSeconds(30);
    private const long FullBytes = 4 << 20;
    private readonly Dictionary<string, (long Total, long Done)> reached = new(StringComparer.Ordinal);

    /// <summary>By disk: what was to be copied, and what was.</summary>
    public IReadOnlyDictionary<string, (long Total, long Done)> Reached => reached;

    /// <summary>Null: the guest did not run.</summary>
    public TimeSpan? Interruption { get; private set; }

    public Task BeginAsync(CancellationToken cancellationToken) => connection.ChangeAsync(libvirt =>
    {
        using var domain = Domains.Find(libvirt, request.Machine);
        foreach (var disk in journal.Disks)
        {
            var destination = new XElement("disk", new XAttribute("type", "file"), new XElement("source", new XAttribute("file", disk.NewPath)),
                new XElement("driver", new XAttribute("type", disk.NewFormat))).ToString(SaveOptions.DisableFormatting);
            // libvirt before 8.0 does not know it: then a busy guest is caught up with while it stands still.
            if (LibvirtBlockJobs.Copy(domain, disk.Node, destination, 0, 0, LibvirtBlockJobs.TransientJob | LibvirtBlockJobs.SynchronousWrites) < 0)
            {
                var failure = LibvirtFailure.Last();
                if (failure.Code is not (LibvirtFailure.InvalidArgument or LibvirtFailure.OperationUnsupported))
                {
                    throw failure;
                }
                LibvirtValues.Require(LibvirtBlockJobs.Copy(domain, disk.Node, destination, 0, 0, LibvirtBlockJobs.TransientJob));
            }
            if (request.BytesPerSecondMax > 0)
            {
                LibvirtValues.Require(LibvirtBlockJobs.SetSpeed(domain, disk.Node, (nuint)Math.Max(1, request.BytesPerSecondMax / journal.Disks.Count), LibvirtBlockJobs.SpeedInBytes));
            }
        }
        return true;
    }, cancellationToken);

    /// <summary>Waits until both places of all disks are equal and stay so.</summary>
    /// <exception cref="FaultException">A copy failed; the guest noticed nothing.</exception>
    public async Task WaitAsync(CancellationToken cancellationToken)
    {
        while (true)
        {
            var ready = await connection.QueryAsync(Look, cancellationToken);
            request.Progress(new StorageMoveProgress("copying", reached.Values.Sum(static progress => progress.Total), reached.Values.Sum(static progress => progress.Done)));
            if (ready)
            {
                return;
            }
            await Task.Delay(PollInterval, context.Time, cancellationToken);
        }
    }

    private bool Look(ConnectionHandle libvirt)
    {
        using var domain = Domains.Find(libvirt, request.Machine);
        if (!Domains.IsActive(domain))
        {
            throw new FaultException(FaultReason.HypervisorUnavailable, "The machine ended while its disks were moved. They are where they were.");
        }
        foreach (var disk in journal.Disks)
        {
            if (LibvirtValues.Require(LibvirtBlockJobs.GetInfo(domain, disk.Node, out var info, 0)) == 0)
            {
                throw Failed(disk);
            }
            reached[disk.Name] = ((long)info.End, (long)info.Current);
        }
        var mirrors = MovedDomain.ReadMirrors(DomainDocument.Parse(LibvirtValues.TakeText(LibvirtCalls.GetXml(domain, 0))));
        return journal.Disks.All(disk => mirrors.GetValueOrDefault(disk.Node) is { Ready: true });
    }

    // libvirt does not keep why a job ended.
    private static FaultException Failed(MovingDisk disk)
    {
        var full = FreeSpace.Of(Path.GetDirectoryName(disk.NewPath)!) < FullBytes;
        return new FaultException(full ? FaultReason.DeviceFull : FaultReason.FailedPrecondition,
            $"Disk {disk.Name} could not be copied to {disk.NewPath}: {(full ? "there is no space left" : "the copying was ended; QEMU's log of the machine can tell more")}. The machine runs on with the old images, and nothing is left at the new place.");
    }

    /// <summary>The change-over. Not cancellable. When this fails, libvirt knows which images are in use.</summary>
    public async Task PivotAsync(ScratchFolder folder)
    {
        var view = await connection.QueryAsync(libvirt => Domains.Read(libvirt, request.Machine), CancellationToken.None);
        journal.Enter(MoveStage.Pivoting);
        await using var lease = context.Options.Guard is { } guard
            ? await guard.ArmAsync(LibvirtGuestRelease.TargetOf(connection, view, folder.Path), PauseLimit, CancellationToken.None) : null;
        var begun = context.Time.GetTimestamp();
        var held = false;
        try
        {
            held = await HeldDomain.SuspendAsync(connection, request.Machine, folder.Marks);
            await connection.ChangeAsync(PivotAll, CancellationToken.None);
        }
        catch (FaultException fault)
        {
            if (await FindMovedAsync() is { Count: > 0 } moved)
            {
                throw new FaultException(fault.Reason, $"{fault.Message} At the new place are now: {string.Join(", ", moved)}; what else was to move is where it was. The machine runs on with them; move the rest again.", fault);
            }
            throw;
        }
        finally
        {
            await HeldDomain.ResumeAsync(connection, request.Machine, folder.Marks, CancellationToken.None);
            Interruption = held ? context.Time.GetElapsedTime(begun) : null;
        }
        if (lease is not null)
        {
            await lease.DisarmAsync();
        }
    }

    private bool PivotAll(ConnectionHandle libvirt)
    {
        using var domain = Domains.Find(libvirt, request.Machine);
        foreach (var disk in journal.Disks)
        {
            LibvirtValues.Require(LibvirtBlockJobs.End(domain, disk.Node, LibvirtBlockJobs.Pivot));
        }
        return true;
    }

    /// <summary>Names of disks that are at their new places. Asked for a message only: what cannot be asked is left out.</summary>
    private async Task<List<string>> FindMovedAsync()
    {
        try
        {
            return await connection.QueryAsync(libvirt =>
            {
                using var domain = Domains.Find(libvirt, request.Machine);
                return MovedDomain.FindMoved(domain, journal.Disks).Where(static disk => disk.Moved).Select(static disk => disk.Name).ToList();
            }, CancellationToken.None);
        }
        catch (FaultException)
        {
            return [];
        }
    }
}
