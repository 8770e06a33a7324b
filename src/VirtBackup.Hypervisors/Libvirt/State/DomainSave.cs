using VirtBackup.Core;
using VirtBackup.Hypervisors.Guests;
using VirtBackup.Hypervisors.Libvirt.Native;

namespace VirtBackup.Hypervisors.Libvirt;

/// <summary>
/// Saves a running machine by libvirt's own save, and has libvirt bring it back paused from what was saved: its disks are cut then, at
/// the instant of its memory. The guest stands still all the time. The mark says that it is ours to let go on; as long as the machine
/// has not been brought back, what was saved has a name by which whoever comes after us finds it, and no longer: a machine that has
/// run since must never be set back to it.
/// </summary>
internal sealed class DomainSave(LibvirtConnection connection, Id16 machine, string folder, TimeProvider time)
{
    private const uint Running = 2, Paused = 4; // VIR_DOMAIN_SAVE_RUNNING, VIR_DOMAIN_SAVE_PAUSED
    private const int JobUnbounded = 2;
    private readonly FreezeMarks marks = new(folder);
    private long begun;
    private bool isBack;

    /// <summary>What was saved, when the machine is back.</summary>
    public string Image => ImageIn(folder);

    /// <summary>For how long the guest stood still.</summary>
    public TimeSpan StoodStill { get; private set; }

    private static string ImageIn(string folder) => Path.Combine(folder, "state");

    private static string AbsentImage(string folder) => Path.Combine(folder, "state.only");

    /// <summary>For people, when the guest goes on.</summary>
    public string Detail => string.Create(System.Globalization.CultureInfo.InvariantCulture,
        $"Memory and processors were captured at the same instant, for which the guest stood still for {StoodStill.TotalMilliseconds:0} ms. Restored without them, the disks are crash-consistent.");

    /// <summary>Stops the guest.</summary>
    /// <exception cref="FaultException">It does not run any more, or libvirt refused; <see cref="ContinueAsync"/> is still to be called.</exception>
    public async Task SuspendAsync()
    {
        begun = time.GetTimestamp();
        if (!await HeldDomain.SuspendAsync(connection, machine, marks))
        {
            throw new FaultException(FaultReason.FailedPrecondition, "The machine was stopped by somebody else just before its cut. Let it go on, and run the backup again.");
        }
    }

    /// <summary>Saves the machine, which ends; and brings it back, paused.</summary>
    /// <exception cref="FaultException">It is not paused and ours; <see cref="ContinueAsync"/> is still to be called.</exception>
    public async Task RunAsync()
    {
        marks.Set(FreezeMarks.Saved);
        await connection.ChangeAsync(libvirt =>
        {
            using var domain = Domains.Find(libvirt, machine);
            return LibvirtValues.Require(LibvirtCalls.Save(domain, AbsentImage(folder), null, 0));
        }, CancellationToken.None);
        await BringBackAsync(connection, marks);
        isBack = true;
    }

    /// <summary>Lets the guest go on, wherever <see cref="RunAsync"/> ended.</summary>
    /// <exception cref="FaultException">It could not be let go on: the message says where its memory lies. The mark stays.</exception>
    public async Task ContinueAsync()
    {
        try
        {
            if (isBack)
            {
                marks.Remove(FreezeMarks.Saved);
            }
            else if (!await TryReleaseAsync(connection, machine, folder, static _ => { }, CancellationToken.None))
            {
                throw new FaultException(FaultReason.HypervisorUnavailable, "libvirt is still saving it.");
            }
            await HeldDomain.ResumeAsync(connection, machine, marks, CancellationToken.None);
        }
        catch (FaultException fault)
        {
            throw new FaultException(fault.Reason, $"The machine could not be let go on after its state was saved: {fault.Message} The agent tries again when it starts; by hand, 'virsh restore {AbsentImage(folder)}' or 'virsh resume' does it.", fault);
        }
        StoodStill = time.GetElapsedTime(begun);
    }

    // It must not run before its image has the other name for good: whoever found it by the old one would set the machine back.
    private static async Task BringBackAsync(LibvirtConnection connection, FreezeMarks marks)
    {
        // By this mark it is let go on.
        marks.Set(FreezeMarks.Stopped);
        await RestoreAsync(connection, AbsentImage(marks.Folder), null, Paused);
        KeepAside(marks.Folder);
    }

    private static void KeepAside(string folder)
    {
        try
        {
            if (File.Exists(AbsentImage(folder)))
            {
                File.Move(AbsentImage(folder), ImageIn(folder));
            }
        }
        catch (Exception failure) when (failure is IOException or UnauthorizedAccessException)
        {
            throw new FaultException(FaultReason.FailedPrecondition, $"What was saved of the machine cannot get another name in {folder}: {failure.Message}", failure);
        }
        DurableFolder.Flush(folder);
    }

    /// <summary>Has libvirt start a machine from a saved state.</summary>
    /// <param name="definition">That it gets; null: the saved one.</param>
    public static Task StartAsync(LibvirtConnection connection, string image, string? definition) => RestoreAsync(connection, image, definition, Running);

    private static Task<int> RestoreAsync(LibvirtConnection connection, string image, string? definition, uint how) =>
        connection.ChangeAsync(libvirt => LibvirtValues.Require(LibvirtCalls.Restore(libvirt, image, definition, how)), CancellationToken.None);

    /// <summary>
    /// Brings a machine back that a killed run saved, paused and marked so that <see cref="HeldDomain.ResumeAsync"/>, which must follow, lets
    /// it go on; one that is there is left as it is. Does nothing without the mark.
    /// </summary>
    /// <returns>False: libvirt is still at it; later.</returns>
    public static async Task<bool> TryReleaseAsync(LibvirtConnection connection, Id16 machine, string folder, Action<string> log, CancellationToken cancellationToken)
    {
        var marks = new FreezeMarks(folder);
        if (!marks.Has(FreezeMarks.Saved))
        {
            return true;
        }
        var (isActive, isBusy) = await connection.QueryAsync(libvirt => Look(libvirt, machine), cancellationToken);
        if (isBusy)
        {
            return false;
        }
        if (!isActive && SaveImage.IsComplete(AbsentImage(folder)))
        {
            await BringBackAsync(connection, marks);
            log("The machine goes on from the state that was saved of it.");
        }
        else
        {
            KeepAside(folder);
        }
        marks.Remove(FreezeMarks.Saved);
        return true;
    }

    private static (bool IsActive, bool IsBusy) Look(ConnectionHandle libvirt, Id16 machine)
    {
        using var domain = Domains.TryFind(libvirt, machine);
        if (domain is null || !Domains.IsActive(domain))
        {
            return default;
        }
        // A save is a job; so is our backup, during which the machine is let go on.
        LibvirtValues.Require(LibvirtCalls.GetJobInfo(domain, out var job));
        var isBackup = LibvirtCalls.GetBackupXml(domain, 0) is var text && text != 0;
        if (isBackup)
        {
            _ = LibvirtValues.TakeText(text);
        }
        return (true, !isBackup && job.Type is > 0 and <= JobUnbounded);
    }
}
