using System.Globalization;
using VirtBackup.Testing.Lab;

namespace VirtBackup.Proofs.RestoreMatrix;

/// <summary>
/// A partitioned raw disk with an ext4, an XFS and an NTFS file system, swap space and an LVM physical volume, made by the
/// tools of their makers. The guest writes files to ext4 and blocks into the others.
/// </summary>
internal static class FilesystemDisk
{
    public const int MiB = 1 << 20;
    public const int SizeMiB = 82;

    /// <summary>Behind the ext4 file system, which the guest mounts.</summary>
    public const int BlocksFromMiB = 17;

    private static readonly (string Name, int SizeMiB, string Type)[] Parts =
        [("ext4", 16, "L"), ("xfs", 20, "L"), ("ntfs", 16, "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7"), ("swap", 8, "S"), ("lvm", 16, "V")];

    /// <returns>What could not be made here, for people; empty when all was.</returns>
    public static async Task<string> MakeAsync(string path)
    {
        using var scratch = new LabDirectory();
        await Proc.CheckAsync("truncate", ["-s", $"{SizeMiB}M", path]);
        var table = "label: gpt\n" + string.Concat(Parts.Select((part, i) => string.Create(CultureInfo.InvariantCulture, $"start={StartOf(i)}MiB, size={part.SizeMiB}MiB, type={part.Type}\n")));
        (await Proc.RunAsync("sfdisk", ["--quiet", path], standardInput: table)).EnsureSuccess();
        var missing = "";
        foreach (var (i, part) in Parts.Index())
        {
            var image = scratch.File(part.Name);
            await Proc.CheckAsync("truncate", ["-s", $"{part.SizeMiB}M", image]);
            switch (part.Name)
            {
                case "ext4":
                    await Proc.CheckAsync("mke2fs", ["-q", "-F", "-t", "ext4", "-E", "lazy_itable_init=0,lazy_journal_init=0", image]);
                    break;
                case "xfs":
                    // Its makers do not support file systems below 300 MiB; the bytes are the same.
                    await Proc.CheckAsync("mkfs.xfs", ["-q", "-f", "--unsupported", image]);
                    break;
                case "ntfs":
                    await Proc.CheckAsync("mkntfs", ["-q", "-F", "-f", image]);
                    break;
                case "swap":
                    await Proc.CheckAsync("mkswap", ["-q", image]);
                    break;
                default:
                    missing = await MakeVolumeGroupAsync(image);
                    break;
            }
            await Proc.CheckAsync("dd", [$"if={image}", $"of={path}", "bs=1M", $"seek={StartOf(i)}", "conv=notrunc,sparse", "status=none"]);
        }
        return missing;
    }

    // Tools write volumes to devices only; a logical volume needs a device mapper in the kernel.
    private static async Task<string> MakeVolumeGroupAsync(string image)
    {
        await using var device = await LoopDevice.AttachAsync(image);
        var group = $"vbmatrix{Path.GetRandomFileName()[..8]}";
        await Proc.CheckAsync("pvcreate", ["-q", "-y", device.Path]);
        await Proc.CheckAsync("vgcreate", ["-q", group, device.Path]);
        var volume = await Proc.RunAsync("lvcreate", ["-q", "-y", "-an", "-Zn", "-Wn", "-L", "4M", "-n", "data", group]);
        return volume.ExitCode == 0 ? "" : "an LVM physical volume and group, but no logical volume: this kernel has no device mapper";
    }

    private static int StartOf(int part) => 1 + Parts[..part].Sum(before => before.SizeMiB);
}

/// <summary>A loop device over a file; disposal detaches it.</summary>
internal sealed class LoopDevice : IAsyncDisposable
{
    private LoopDevice(string path, string file)
    {
        Path = path;
        File = file;
    }

    public string Path { get; }

    public string File { get; }

    public static async Task<LoopDevice> AttachAsync(string file) => new((await Proc.CheckAsync("losetup", ["--find", "--show", file])).Trim(), file);

    public async Task GrowAsync(int byMiB)
    {
        await Proc.CheckAsync("truncate", ["-s", $"+{byMiB}M", File]);
        await Proc.CheckAsync("losetup", ["--set-capacity", Path]);
    }

    public async ValueTask DisposeAsync() => await Proc.RunAsync("losetup", ["--detach", Path]);
}
