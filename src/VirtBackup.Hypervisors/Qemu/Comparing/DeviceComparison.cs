using VirtBackup.Hypervisors.Targets;

namespace VirtBackup.Hypervisors.Qemu.Comparing;

/// <summary>Device models, disk buses and sectors.</summary>
internal static class DeviceComparison
{
    private const int SectorBytesDefault = 512;

    /// <param name="storage">Where the disks would lie; null: the folder is none.</param>
    public static IEnumerable<RestoreFinding> Compare(Comparison comparison, TargetStorage? storage)
    {
        foreach (var finding in CompareModels(comparison))
        {
            yield return finding;
        }
        foreach (var disk in comparison.Request.Disks)
        {
            yield return CompareSectors(comparison, disk, storage);
        }
    }

    private static IEnumerable<RestoreFinding> CompareModels(Comparison comparison)
    {
        var models = comparison.Options.Where(option => option is { Name: "device", Value: not null }).Select(option => ModelOf(option.Value!)).OfType<string>().Distinct().ToList();
        if (comparison.Program is not { } program)
        {
            yield return Found("disk bus", FindingSeverity.Unknown, "Disk buses and other devices cannot be judged without the program that would run the machine.");
            yield break;
        }
        var missing = models.Where(model => !program.Abilities.DeviceModels.Contains(model)).ToList();
        foreach (var model in missing)
        {
            yield return Found("device", FindingSeverity.Blocks, $"{program.Executable} does not have the device model {model}. Install a QEMU that has it (some come as separate packages), or restore on another host.");
        }
        if (missing.Count > 0)
        {
            yield break;
        }
        var buses = models.Where(IsDisk).ToList();
        yield return Found("disk bus", FindingSeverity.Fits, buses.Count > 0
            ? $"{program.Executable} has every device of the machine; disks are attached as {string.Join(", ", buses)}, as they were."
            : $"{program.Executable} has every device of the machine; disks are attached by the machine type's own controller, as they were.");
    }

    private static RestoreFinding CompareSectors(Comparison comparison, RestoreDisk disk, TargetStorage? storage)
    {
        const string item = "sector size";
        if (comparison.Facts.SectorsOf(disk.Id.ToString()) is not { } sectors)
        {
            return comparison.Options.Any(option => option is { Name: "device", Value: { } value } && value.Contains("logical_block_size", StringComparison.Ordinal))
                ? Found(item, FindingSeverity.Unknown, $"The recovery point does not hold the sector size of disk {disk.Name}: it was made before this was recorded. The guest finds what the command line names.")
                : Found(item, FindingSeverity.Unknown, $"The recovery point does not hold the sector size of disk {disk.Name}: it was made before this was recorded. The command line names none, so that it is QEMU's default, {SectorBytesDefault} bytes.");
        }
        var size = sectors.Physical is { } physical && physical != sectors.Logical ? $"{sectors.Logical} bytes ({physical} physically)" : $"{sectors.Logical} bytes";
        if (disk.LengthBytes % sectors.Logical != 0)
        {
            return Found(item, FindingSeverity.Blocks,
                $"Disk {disk.Name} has sectors of {size}, and its {disk.LengthBytes} bytes are no whole number of them: QEMU refuses it. Restore it as an image (restore run with another machine, or repository extract).");
        }
        return storage?.SectorBytes is { } host && host > sectors.Logical && IsDirect(comparison)
            ? Found(item, FindingSeverity.Adapts,
                $"Disk {disk.Name} has sectors of {size}, the device below {storage!.MountPoint} has {host}, and the page cache is not used: QEMU reads and rewrites a whole sector for each smaller write.")
            : Found(item, FindingSeverity.Fits, $"Disk {disk.Name} has sectors of {size}, as it had.");
    }

    private static bool IsDirect(Comparison comparison) => comparison.Options.Any(option =>
        option is { Name: "drive" or "blockdev", Value: { } value }
        && (value.Contains("cache=none", StringComparison.Ordinal) || value.Contains("cache=directsync", StringComparison.Ordinal)
            || value.Contains("cache.direct=on", StringComparison.Ordinal) || value.Contains("\"direct\":true", StringComparison.Ordinal)));

    private static string? ModelOf(string value)
    {
        if (value.StartsWith('{'))
        {
            return JsonOption.Text(JsonOption.TryParse(value)?["driver"]);
        }
        var text = OptionText.Parse(value);
        return text["driver"] ?? text.Head;
    }

    private static bool IsDisk(string model) =>
        model.StartsWith("virtio-blk", StringComparison.Ordinal) || model is "scsi-hd" or "ide-hd" or "scsi-disk" or "nvme" or "nvme-ns" or "usb-storage" or "sd-card";

    private static RestoreFinding Found(string item, FindingSeverity severity, string message) => new(item, severity, message);
}
