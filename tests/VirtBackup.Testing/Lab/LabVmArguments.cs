namespace VirtBackup.Testing.Lab;

/// <summary>Writes the command line of a <see cref="LabVm"/> in the style of people who start QEMU by hand or from scripts.</summary>
internal static class LabVmArguments
{
    public static IReadOnlyList<string> For(LabVmOptions options, Guid uuid, LabGuest guest, LabVmPaths paths, IReadOnlyList<LabVmDisk> disks)
    {
        List<string> a =
        [
            // Software emulation always: a /dev/kvm that opens is no proof of one that runs stock kernels.
            "-machine", $"{options.Machine},accel=tcg",
            "-cpu", "max",
            "-smp", $"{options.Cpus}",
            "-m", $"{options.MemoryMiB}",
            "-uuid", $"{uuid}",
            "-name", $"guest={options.Name}",
        ];
        var settings = options.AllDisks(guest).ToList();
        var sharedController = settings.Exists(d => d.Bus == LabBus.VirtioScsi && !d.IoThread);
        if (sharedController) a.AddRange(["-device", "virtio-scsi-pci,id=scsi0"]);
        var idePort = 0;
        foreach (var (setting, disk) in settings.Zip(disks))
        {
            AddDisk(a, options, setting, disk, ref idePort);
        }
        var mac = uuid.ToByteArray();
        a.AddRange(
        [
            "-netdev", "user,id=n0,restrict=on",
            "-device", $"virtio-net-pci,netdev=n0,id=net0,mac=52:54:00:{mac[0]:x2}:{mac[1]:x2}:{mac[2]:x2}",
            "-object", "rng-random,id=rng0,filename=/dev/urandom",
            "-device", "virtio-rng-pci,rng=rng0",
            "-chardev", $"socket,id=qga0,path={paths.GuestAgent},server=on,wait=off{(options.GuestAgentLog is { } log ? $",logfile={log},logappend=on" : "")}",
            "-chardev", $"socket,id=lab0,path={paths.LabAgent},server=on,wait=off",
            "-device", "virtio-serial",
            "-device", "virtserialport,chardev=qga0,name=org.qemu.guest_agent.0",
            "-device", "virtserialport,chardev=lab0,name=lab.guest_agent.0",
            "-qmp", $"unix:{paths.Qmp},server=on,wait=off",
            "-qmp", $"unix:{paths.LabQmp},server=on,wait=off",
            "-display", "none",
            "-nodefaults",
            "-serial", $"file:{paths.Serial}",
            "-kernel", options.ExtraArguments.Any(static argument => argument.Contains("tpm", StringComparison.Ordinal)) ? guest.PackedKernel : guest.Kernel,
            "-initrd", guest.Initrd,
            // On a busy host the kernel's look at its timer comes too late, and it would give up.
            "-append", "console=ttyS0 quiet panic=-1 no_timer_check mitigations=off cryptomgr.notests",
        ]);
        a.AddRange(options.ExtraArguments);
        return a;
    }

    private static void AddDisk(List<string> a, LabVmOptions options, LabDiskOptions setting, LabVmDisk disk, ref int idePort)
    {
        var ioThread = "";
        if (setting.IoThread)
        {
            if (setting.Bus == LabBus.Ide) throw new ArgumentException($"The disk {disk.NodeName} cannot have an I/O thread on an IDE bus.");
            a.AddRange(["-object", $"iothread,id=io-{disk.DeviceId}"]);
            ioThread = $",iothread=io-{disk.DeviceId}";
        }
        a.AddRange(
        [
            "-blockdev",
            $"driver={LabDisk.NameOf(disk.Format)},node-name={disk.NodeName},file.driver=file,file.filename={disk.Path.Replace(",", ",,", StringComparison.Ordinal)}",
        ]);
        var common = $"id={disk.DeviceId},drive={disk.NodeName},serial={setting.Serial ?? disk.NodeName}";
        switch (setting.Bus)
        {
            case LabBus.VirtioBlk:
                a.AddRange(["-device", $"virtio-blk-pci,{common}{ioThread}"]);
                break;
            case LabBus.VirtioScsi when setting.IoThread:
                a.AddRange(["-device", $"virtio-scsi-pci,id=scsi-{disk.DeviceId}{ioThread}", "-device", $"scsi-hd,{common},bus=scsi-{disk.DeviceId}.0"]);
                break;
            case LabBus.VirtioScsi:
                a.AddRange(["-device", $"scsi-hd,{common},bus=scsi0.0"]);
                break;
            default:
                // q35: six ports of one disk; pc: two buses of two disks.
                var place = options.Machine.StartsWith("q35", StringComparison.Ordinal)
                    ? $"bus=ide.{idePort}"
                    : $"bus=ide.{idePort / 2},unit={idePort % 2}";
                a.AddRange(["-device", $"ide-hd,{common},{place}"]);
                idePort++;
                break;
        }
    }
}

/// <summary>The sockets and files of a VM's directory.</summary>
/// <param name="folder">Empty: names of files alone, for what must not depend on the place.</param>
internal sealed class LabVmPaths(string folder)
{
    public string Qmp { get; } = Path.Combine(folder, "qmp.sock");

    public string GuestAgent { get; } = Path.Combine(folder, "qga.sock");

    public string LabQmp { get; } = Path.Combine(folder, "lab-qmp.sock");

    public string LabAgent { get; } = Path.Combine(folder, "lab-qga.sock");

    public string Serial { get; } = Path.Combine(folder, "serial.log");

    public string Image(LabDiskOptions disk) => Path.Combine(folder, $"{disk.NodeName}.{LabDisk.NameOf(disk.Format)}");
}
