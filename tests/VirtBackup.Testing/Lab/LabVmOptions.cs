namespace VirtBackup.Testing.Lab;

/// <summary>The controller that a disk hangs on.</summary>
public enum LabBus
{
    VirtioBlk,
    VirtioScsi,
    /// <summary>PIIX on pc. AHCI on q35, for which the guest has no driver: good for extra disks that it need not see.</summary>
    Ide,
}

/// <summary>One disk of a <see cref="LabVm"/>: its content is copied from an image, made blank, or an existing file used in place.</summary>
public sealed record LabDiskOptions
{
    /// <summary>The name of the block node, and of the image file in the VM's directory.</summary>
    public required string NodeName { get; init; }

    /// <summary>The device's id; "disk-" and the node name when not given.</summary>
    public string? DeviceId { get; init; }

    public LabBus Bus { get; init; } = LabBus.VirtioBlk;

    public LabDiskFormat Format { get; init; } = LabDiskFormat.Qcow2;

    /// <summary>A qcow2 image whose content the disk starts with.</summary>
    public string? CopyFrom { get; init; }

    /// <summary>An image of <see cref="Format"/> to use in place; it is not removed with the VM.</summary>
    public string? UseInPlace { get; init; }

    /// <summary>Bytes; for a blank disk.</summary>
    public long Size { get; init; } = 64 << 20;

    /// <summary>Serve the disk from an I/O thread of its own (virtio only).</summary>
    public bool IoThread { get; init; }

    /// <summary>The serial number that the guest sees; the node name when not given.</summary>
    public string? Serial { get; init; }

    public string Device => DeviceId ?? "disk-" + NodeName;
}

/// <summary>How a <see cref="LabVm"/> is made. The defaults start the lab guest with its root and data disks on virtio-blk.</summary>
public sealed record LabVmOptions
{
    public string Name { get; init; } = "lab";

    /// <summary>Random when not given.</summary>
    public Guid? Uuid { get; init; }

    /// <summary>"q35" or "pc".</summary>
    public string Machine { get; init; } = "q35";

    public int MemoryMiB { get; init; } = 256;

    public int Cpus { get; init; } = 1;

    /// <summary>All disks; the lab guest's root and data when null. The guest finds its own by label, on any bus.</summary>
    public IReadOnlyList<LabDiskOptions>? Disks { get; init; }

    /// <summary>Disks besides <see cref="Disks"/>.</summary>
    public IReadOnlyList<LabDiskOptions> ExtraDisks { get; init; } = [];

    /// <summary>A file or pipe for all that the guest agent says to the program under test; null: it is written nowhere.</summary>
    public string? GuestAgentLog { get; init; }

    /// <summary>Its guest boots as on a machine that was switched on, however often such a guest was started.</summary>
    public bool FromItsFirmware { get; init; }

    /// <summary>Further arguments of QEMU, at the end.</summary>
    public IReadOnlyList<string> ExtraArguments { get; init; } = [];

    /// <summary>The lab guest's own disks or others in their place, and further ones.</summary>
    internal IEnumerable<LabDiskOptions> AllDisks(LabGuest guest) => (Disks ?? GuestDisks(guest)).Concat(ExtraDisks);

    /// <summary>The lab guest's own two disks with a bus, format and I/O thread of choice: node names "root" and "data".</summary>
    public static IReadOnlyList<LabDiskOptions> GuestDisks(
        LabGuest guest, LabBus bus = LabBus.VirtioBlk, LabDiskFormat format = LabDiskFormat.Qcow2, bool ioThread = false) =>
    [
        new() { NodeName = "root", Bus = bus, Format = format, IoThread = ioThread, CopyFrom = guest.RootDisk },
        new() { NodeName = "data", Bus = bus, Format = format, IoThread = ioThread, CopyFrom = guest.DataDisk },
    ];
}

/// <summary>A disk of a running <see cref="LabVm"/>.</summary>
public sealed record LabVmDisk(string NodeName, string DeviceId, string Path, LabDiskFormat Format, LabBus Bus);
