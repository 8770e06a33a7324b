using VirtBackup.Core;

namespace VirtBackup.Hypervisors.Libvirt;

/// <summary>Refuses to capture a running state that could not be gone on from, or has no room, before the guest is touched.</summary>
internal sealed class DomainStateAdmission(LibvirtContext context, CaptureRequest request)
{
    /// <summary>Devices, firmware and display memory, besides the machine's own.</summary>
    private const long BesidesBytes = 320L << 20;

    /// <exception cref="FaultException"><see cref="FaultReason.Unsupported"/>, <see cref="FaultReason.FailedPrecondition"/> or <see cref="FaultReason.DeviceFull"/>, with what to do instead.</exception>
    /// <returns>The room that the state has until it is saved; null: none is captured.</returns>
    public IDisposable? Require(DomainView view)
    {
        if (request.WithState == StateCapture.None)
        {
            return null;
        }
        var name = view.Document.Name;
        if (request.WithState == StateCapture.Live)
        {
            throw Unsupported($"The running state of {name} cannot be captured while its guest goes on: libvirt saves machines that stand still. Have it stand still until its memory is saved ('--state stop'), or back up without it.");
        }
        if (!view.Running)
        {
            throw new FaultException(FaultReason.FailedPrecondition, $"The machine {name} stands still: there is no running state to capture. Let it go on, or back up without.");
        }
        if (!view.Persistent)
        {
            throw Unsupported($"The running state of {name} cannot be captured: it is transient, so that libvirt knows it only while it runs, and saving it ends it for a moment. Define it (virsh define), or back up without.");
        }
        // A machine that goes on finds its disks as it knows them, or finds them broken.
        if (view.Disks.FirstOrDefault(disk => request.ExcludedDisks.Contains(disk.Target)) is { } absent)
        {
            throw Unsupported($"The running state of {name} cannot be captured without its disk {absent.Target}: it would not find it as it was. Back up the disk, too, or back up without the running state.");
        }
        if (view.Document.HostDevices.Count > 0)
        {
            throw Unsupported($"The running state of {name} cannot be captured: it has devices of its host ({string.Join(", ", view.Document.HostDevices)}), whose state is their own. Back up without it.");
        }
        return TakeRoom(view);
    }

    private IDisposable TakeRoom(DomainView view)
    {
        var needed = BesidesBytes + (view.Document.MemoryBytes ?? 0);
        var spare = context.Options.FleeceFreeBytesMin;
        return context.StateRoom.TryTake(needed, spare, () => FreeSpace.Of(context.Options.FleeceFolder), out var free)
            ?? throw new FaultException(FaultReason.DeviceFull,
                $"The running state of {view.Document.Name} needs {needed >> 20} MiB in the fleece folder {context.Options.FleeceFolder} until it is sent, besides {spare >> 20} MiB for the disks; {free >> 20} MiB are free. Free space, name another folder, or back up without it.");
    }

    private static FaultException Unsupported(string message) => new(FaultReason.Unsupported, message);
}
