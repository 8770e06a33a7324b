using VirtBackup.Testing.Installations;

namespace VirtBackup.Proofs.RestoreMatrix;

/// <summary>
/// A real guest with a root disk and a data disk of each kind, and all that happens to it, done past the product. Disposal
/// removes it.
/// </summary>
internal interface IMatrixMachine : IAsyncDisposable
{
    string Name { get; }

    /// <summary>All disks that are captured, as they are now; the root disk first.</summary>
    IReadOnlyList<MatrixDisk> Disks { get; }

    /// <summary>Gives it to the agent, as it is now.</summary>
    /// <returns>The name by which the product knows it.</returns>
    string Configure(InstalledAgent agent);

    Task PauseAsync();

    Task ResumeAsync();

    /// <summary>Whether the product has cut the disks and reads them.</summary>
    Task<bool> IsCutAsync();

    /// <summary>New files on ext4 and the root disk, new blocks elsewhere; all on disk when it returns.</summary>
    Task WriteAsync(Random random);

    /// <summary>Does to the machine what the scenario says.</summary>
    Task ChangeAsync(Scenario scenario, string template, Random random);

    /// <summary>How the matrix says that a disk must be read.</summary>
    Mode ModeOf(Scenario scenario, MatrixDisk disk);

    /// <summary>Removes what a restore of this name made beside its files.</summary>
    Task ForgetRestoredAsync(string name);
}

/// <summary>What guests do and what is copied, alike on all platforms.</summary>
internal static class GuestWork
{
    /// <summary>A line of shell that writes to the root disk and to all disks of a pattern.</summary>
    public static string WriteLine(string devices, Random random)
    {
        string Place() => ((FilesystemDisk.BlocksFromMiB * 16) + random.Next(60 * 16)).ToString(System.Globalization.CultureInfo.InvariantCulture);
        return $"dd if=/dev/urandom of=/root/file{random.Next(4)} bs=64k count={random.Next(2, 8)} conv=notrunc 2>/dev/null; "
            + $"for d in {devices}; do "
            + "[ -b ${d}1 ] && mkdir -p /run/m${d##*/} && { grep -q ${d}1 /proc/mounts || mount -t ext4 ${d}1 /run/m${d##*/}; } "
            + $"&& dd if=/dev/urandom of=/run/m${{d##*/}}/file{random.Next(4)} bs=16k count={random.Next(2, 30)} conv=notrunc 2>/dev/null; "
            + $"for at in {Place()} {Place()} {Place()}; do dd if=/dev/urandom of=$d bs=64k seek=$at count=2 conv=notrunc,fsync 2>/dev/null; done; done; sync";
    }

    /// <summary>The content of all disks now, as raw copies by qemu-img. The guest must be paused, or off.</summary>
    public static async Task<IReadOnlyDictionary<string, string>> CopyAsync(IMatrixMachine machine, string target)
    {
        Directory.CreateDirectory(target);
        var copies = new Dictionary<string, string>(StringComparer.Ordinal);
        foreach (var disk in machine.Disks)
        {
            copies[disk.Name] = Path.Combine(target, disk.Name + ".raw");
            await Testing.Lab.Proc.CheckAsync("qemu-img", ["convert", "-U", "-f", disk.Format, "-O", "raw", disk.Path, copies[disk.Name]], TimeSpan.FromMinutes(10));
        }
        return copies;
    }
}
