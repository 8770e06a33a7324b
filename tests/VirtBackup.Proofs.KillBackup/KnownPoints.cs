using System.Text.Json;
using VirtBackup.Testing.Installations;
using VirtBackup.Testing.Lab;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.KillBackup;

/// <summary>
/// Committed points and, where the guest was paused, what its disks held at their cut: hashed past the product. Checks
/// that restored disks hold it.
/// </summary>
internal sealed class KnownPoints(LabVm vm, Installation installation, string? sabotage)
{
    private readonly List<(string Point, Dictionary<string, string> Hashes)> _known = [];
    private readonly List<string> _committed = [];
    private int _folders;

    public int Count => _committed.Count;

    public int Restores { get; private set; }

    /// <summary>The content of the disks. The guest must be paused.</summary>
    public async Task<Dictionary<string, string>> HashDisksAsync()
    {
        var hashes = new Dictionary<string, string>(StringComparer.Ordinal);
        foreach (var disk in vm.Disks) hashes[disk.DeviceId] = await DiskContent.HashAsync(disk.Path, disk.Format, inUse: true);
        return hashes;
    }

    /// <summary>Restores a new point, which must be equal, and remembers it.</summary>
    /// <param name="hashes">Null: not known; then the restored data disk must hold a file system without a fault.</param>
    public async Task AddAsync(string point, Dictionary<string, string>? hashes)
    {
        _committed.Add(point);
        if (hashes is not null)
        {
            _known.Add((point, hashes));
            await RequireEqualAsync(point, hashes);
        }
        else
        {
            await RequireSoundAsync(point);
        }
    }

    /// <summary>Restores one of the points of known content once more.</summary>
    /// <param name="which">Chooses it, in [0, 1).</param>
    public async Task RequireEarlierAsync(double which)
    {
        var (point, hashes) = _known[(int)(which * _known.Count)];
        await RequireEqualAsync(point, hashes);
    }

    /// <summary>All points are still listed, and the repository is clean.</summary>
    public async Task RequireKeptAsync(bool full)
    {
        var verified = await installation.RunAsync(full ? ["repository", "verify", "--full"] : ["repository", "verify"]);
        if (verified.ExitCode != 0) throw new RefutedException($"the verification ended with exit code {verified.ExitCode}: {verified.Stderr}{verified.Stdout}");
        var lost = _committed.Except(await installation.ListPointsAsync()).ToList();
        if (lost.Count > 0) throw new RefutedException($"committed points are gone: {string.Join(", ", lost)}");
    }

    private async Task RequireEqualAsync(string point, Dictionary<string, string> hashes)
    {
        await RestoreAsync(point, async restored =>
        {
            foreach (var (disk, hash) in hashes)
            {
                var image = restored.GetValueOrDefault(disk) ?? throw new RefutedException($"point {point} was restored without {disk}");
                if (await DiskContent.HashAsync(image, FormatOf(image)) != hash) throw new RefutedException($"{disk} of point {point} is not what the machine held at its cut");
            }
        });
    }

    private async Task RequireSoundAsync(string point)
    {
        var view = (await installation.RunAsync("recovery-point", "show", point)).Json;
        await RestoreAsync(point, async restored =>
        {
            // A file system that was frozen is clean as it stands; otherwise its journal is replayed first, as at a boot.
            var quiesced = view.GetProperty("consistency").GetString() == "filesystem";
            if (!quiesced) (await Proc.RunAsync("e2fsck", ["-y", "-E", "journal_only", restored["disk-data"]])).EnsureSuccess();
            var found = await Proc.RunAsync("e2fsck", ["-f", "-n", restored["disk-data"]]);
            if (found.ExitCode != 0) throw new RefutedException($"the file system in point {point} ({view.GetProperty("consistency_detail").GetString()}) is not sound: {found.Stdout}{found.Stderr}");
        });
    }

    private async Task RestoreAsync(string point, Func<IReadOnlyDictionary<string, string>, Task> check)
    {
        var folder = $"r{_folders++}";
        var restored = await installation.RestoreDisksAsync(point, folder);
        if (sabotage == Sabotages.MissRange) await Sabotages.MissRangeAsync(restored["disk-data"]);
        await check(restored);
        Restores++;
        Directory.Delete(installation.File(folder), recursive: true);
    }

    private static LabDiskFormat FormatOf(string image) => image.EndsWith(".raw", StringComparison.Ordinal) ? LabDiskFormat.Raw : LabDiskFormat.Qcow2;

    public static string PointOf(JsonElement point) => point.GetProperty("point_id").GetString()!;
}
