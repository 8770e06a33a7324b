namespace VirtBackup.Testing.Lab;

/// <summary>
/// What libvirt learned of QEMU by running it, which takes seconds: handed on from one private daemon to the next. libvirt
/// itself rejects what does not fit its version, its user or the emulator any more. Processes may share it.
/// </summary>
internal sealed class LibvirtCapabilities(LabGuest guest, string used, string kind)
{
    private readonly string kept = Path.Combine(Path.GetDirectoryName(guest.Directory)!, $"libvirt-capabilities-{kind}");

    /// <summary>Gives a daemon that is about to start what an earlier one learned.</summary>
    public void Lend()
    {
        Directory.CreateDirectory(used);
        foreach (var file in Directory.Exists(kept) ? Directory.GetFiles(kept, "*.xml") : [])
        {
            File.Copy(file, Path.Combine(used, Path.GetFileName(file)));
        }
    }

    /// <summary>Keeps what the daemon knew.</summary>
    public void Keep()
    {
        foreach (var file in Directory.Exists(used) ? Directory.GetFiles(used, "*.xml") : [])
        {
            var target = Path.Combine(Directory.CreateDirectory(kept).FullName, Path.GetFileName(file));
            if (File.Exists(target) && File.ReadAllBytes(target).AsSpan().SequenceEqual(File.ReadAllBytes(file))) continue;
            var part = $"{target}.{Path.GetRandomFileName()}";
            File.Copy(file, part);
            File.Move(part, target, overwrite: true);
        }
    }
}
