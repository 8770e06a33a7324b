using System.Text.Json.Nodes;
using VirtBackup.Hypervisors;

namespace VirtBackup.Proofs.PlanCalibration.Incompatibilities;

/// <summary>Everything that is injected, with names that chance makes up where names matter.</summary>
internal static class KnownIncompatibilities
{
    public static IReadOnlyList<Incompatibility> All(Host host, Random random) =>
    [
        new("machine type of another QEMU", "machine type", FindingSeverity.Blocks, machine => machine.SetMachineType($"pc-q35-{random.Next(20, 99)}.{random.Next(9)}")),
        new("alias of another version", "machine type", FindingSeverity.Adapts, machine =>
        {
            machine.SetMachineType("q35");
            machine.Neutral["machineType"] = $"pc-q35-{random.Next(20, 99)}.0";
        }),
        new("unknown processor", "cpu", FindingSeverity.Blocks, machine => machine.Add("-cpu", $"Lake{random.Next(1000)}")),
        new("missing processor features", "cpu", FindingSeverity.Adapts, machine => SetFeatures(machine, random)),
        new("missing processor features, enforced", "cpu", FindingSeverity.Blocks, machine =>
        {
            machine.Add("-cpu", "qemu64,enforce");
            SetFeatures(machine, random);
        }),
        new("host's processor without KVM", "cpu", FindingSeverity.Blocks, machine => machine.Add("-cpu", "host", "-accel", "tcg")),
        new("features never recorded", "cpu", FindingSeverity.Unknown, machine =>
        {
            machine.Add("-cpu", "max");
            machine.Facts.Remove("cpu");
        }),
        new("program not installed", "program", FindingSeverity.Blocks, machine => machine.Executable = $"/opt/{random.Next(1000)}/qemu-system-none", IsAlone: true),
        new("program that does not run", "program", FindingSeverity.Blocks, machine => machine.Executable = "/bin/false", IsAlone: true),
        new("unknown device", "device", FindingSeverity.Blocks, machine => machine.Add("-device", $"nic-{random.Next(1000)},id=strange"), IsAlone: true),
        new("firmware missing", "firmware", FindingSeverity.Blocks, machine => machine.Add("-bios", $"{machine.Scratch}/{random.Next(1000)}.fd")),
        new("firmware of another build", "firmware", FindingSeverity.Adapts, machine =>
        {
            machine.Add("-bios", WriteFirmware(machine, "code.fd"));
            machine.Facts["firmware"] = new JsonObject { ["codeSha256"] = new string('0', 64) };
        }),
        new("Secure Boot firmware missing", "secure boot", FindingSeverity.Blocks, machine => machine.Add("-drive", $"if=pflash,unit=0,format=raw,readonly=on,file={machine.Scratch}/OVMF_CODE.secboot.fd"), IsAlone: true),
        new("Secure Boot on a machine that cannot", "secure boot", FindingSeverity.Blocks, machine =>
        {
            machine.SetMachineType("pc");
            machine.Neutral.Remove("machineType");
            machine.Add("-drive", $"if=pflash,unit=0,format=raw,readonly=on,file={WriteFirmware(machine, "OVMF_CODE.secboot.fd")}");
        }, IsAlone: true),
        new("TPM emulator not there", "tpm", FindingSeverity.Blocks, machine =>
            machine.Add("-chardev", $"socket,id=chrtpm,path={machine.Scratch}/swtpm{random.Next(100)}.sock", "-tpmdev", "emulator,id=tpm0,chardev=chrtpm", "-device", "tpm-tis,tpmdev=tpm0")),
        new("host's TPM not there", "tpm", FindingSeverity.Blocks, machine => machine.Add("-tpmdev", $"passthrough,id=tpm0,path=/dev/tpm-{random.Next(1000)}", "-device", "tpm-tis,tpmdev=tpm0")),
        new("bridge missing", "network", FindingSeverity.Blocks, machine => machine.Add("-netdev", $"bridge,id=net1,br=vbr{random.Next(1000)}")),
        new("bridge of a tap missing", "network", FindingSeverity.Blocks, machine => machine.Add("-netdev", $$"""{"type":"tap","id":"net1","br":"vbr{{random.Next(1000)}}"}""")),
        new("tap script missing", "network", FindingSeverity.Blocks, machine => machine.Add("-netdev", $"tap,id=net1,script={machine.Scratch}/ifup-{random.Next(1000)}")),
        new("port taken", "network", FindingSeverity.Blocks, machine => machine.Add("-netdev", $"user,id=net1,hostfwd=tcp:127.0.0.1:{host.Port}-:22")),
        new("sectors of 4 KiB on an odd length", "sector size", FindingSeverity.Blocks, machine =>
        {
            machine.LengthBytes += 512 * random.Next(1, 8);
            machine.Facts["disks"]![0]!["logicalSectorBytes"] = 4096;
        }),
        new("sectors never recorded", "sector size", FindingSeverity.Unknown, machine => machine.Facts.Remove("disks")),
        new("unknown format", "disk format", FindingSeverity.Blocks, machine => machine.Format = "vmdk"),
        new("no whole sectors", "disk", FindingSeverity.Blocks, machine => machine.LengthBytes += random.Next(1, 512)),
        new("too little space", "space", FindingSeverity.Blocks, machine =>
        {
            machine.Folder = Path.Combine(host.Small, "new");
            machine.DataBytes = random.Next(1, 64) << 20;
        }),
        new("too little space for all of it", "space", FindingSeverity.Blocks, machine => (machine.LengthBytes, machine.DataBytes) = (1L << 45, 1L << 45)),
        new("folder in memory", "storage", FindingSeverity.Adapts, machine => machine.Folder = Path.Combine(host.Small, "new")),
        new("read-only folder", "storage", FindingSeverity.Blocks, machine => machine.Folder = Path.Combine(host.ReadOnly, "new")),
        new("folder not empty", "folder", FindingSeverity.Blocks, machine =>
        {
            machine.Folder = Directory.CreateDirectory(Path.Combine(machine.Scratch, "full")).FullName;
            File.WriteAllText(Path.Combine(machine.Folder, "there"), "before");
        }),
        new("folder is a file", "folder", FindingSeverity.Blocks, machine => File.WriteAllText(machine.Folder = Path.Combine(machine.Scratch, "file"), "before")),
        new("folder's parent missing", "folder", FindingSeverity.Blocks, machine => machine.Folder = Path.Combine(machine.Scratch, $"{random.Next(1000)}", "new")),
        new("folder too long for sockets", "folder", FindingSeverity.Blocks, machine => machine.Folder = Path.Combine(machine.Scratch, new string('x', 90))),
        new("UUID taken", "identity", FindingSeverity.Blocks, machine => (machine.KeepIdentity, machine.Uuid) = (true, host.MachineId)),
        new("name taken", "name", FindingSeverity.Adapts, machine => machine.Name = host.Name),
        new("CD missing", "file", FindingSeverity.Blocks, machine => machine.Add("-cdrom", $"{machine.Scratch}/{random.Next(1000)}.iso")),
    ];

    private static void SetFeatures(StoredMachine machine, Random random) =>
        machine.Facts["cpu"] = new JsonObject { ["model"] = "qemu64", ["features"] = new JsonArray("sse2", $"feature-{random.Next(1000)}") };

    private static string WriteFirmware(StoredMachine machine, string name)
    {
        var file = Path.Combine(machine.Scratch, name);
        File.WriteAllText(file, "firmware");
        return file;
    }
}
