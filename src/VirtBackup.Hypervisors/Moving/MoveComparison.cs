using System.Globalization;
using VirtBackup.Hypervisors.Images;
using VirtBackup.Hypervisors.Targets;

namespace VirtBackup.Hypervisors.Moving;

/// <summary>Whether disks can lie at their new places, whatever platform uses them. Writes nothing.</summary>
internal static class MoveComparison
{
    /// <param name="keepsTracking">Whether change tracking of the disk goes on in an image of that format.</param>
    public static void Compare(IReadOnlyList<(MovableDisk Disk, PlannedMove Move)> moves, bool running, Func<MovableDisk, string, bool> keepsTracking, List<RestoreFinding> findings)
    {
        foreach (var group in moves.GroupBy(move => Path.GetDirectoryName(move.Move.NewPath)!))
        {
            var storage = TargetStorage.Of(group.Key);
            findings.AddRange(StorageComparison.Compare([.. group.Select(static move => (move.Move.Disk.Name, move.Move.Disk.LengthBytes))], storage, "moved"));
            CompareSpace([.. group.Select(static move => move.Move)], storage, findings);
            CompareSectors([.. group], storage, findings);
        }
        foreach (var (disk, move) in moves)
        {
            CompareDisk(disk, move, findings);
            findings.Add(keepsTracking(disk, move.Format)
                ? new RestoreFinding("change tracking", FindingSeverity.Fits, $"Changes of disk {move.Disk.Name} since its last recovery point go on being tracked.")
                : new RestoreFinding("change tracking", FindingSeverity.Adapts, $"An image of disk {move.Disk.Name} as {move.Format} keeps no change tracking {(running ? "when the machine is restarted" : "while it is off")}: the next backup then reads it in full."));
        }
    }

    /// <summary>How the storage of the old images and that of the new are called.</summary>
    public static string NamePath(IReadOnlyList<PlannedMove> moves, string platform, bool running) => string.Create(CultureInfo.InvariantCulture,
        $"{Names(moves.Select(static move => move.OldPath))} -> {Names(moves.Select(static move => move.NewPath))}, {platform}, {string.Join('+', moves.Select(static move => move.Format).Distinct().Order(StringComparer.Ordinal))}, {(running ? "live" : "off")}");

    private static string Names(IEnumerable<string> paths) =>
        string.Join(" + ", paths.Select(static path => BlockDevice.Is(path) ? path : TargetStorage.Of(Path.GetDirectoryName(path)!).Name).Distinct().Order(StringComparer.Ordinal));

    private static void CompareSpace(IReadOnlyList<PlannedMove> moves, TargetStorage storage, List<RestoreFinding> findings)
    {
        var needed = moves.Sum(static move => move.DataBytes);
        var whole = moves.Sum(static move => Math.Max(move.DataBytes, move.Disk.LengthBytes));
        var space = $"{Mebibytes(needed)} MiB are needed at {storage.Folder}, {storage.FreeBytes >> 20} MiB are free.";
        findings.Add(needed > storage.FreeBytes ? NewPlaces.Blocks("space", $"{space} Free space there, or choose another folder.")
            : whole > storage.FreeBytes ? new RestoreFinding("space", FindingSeverity.Adapts, $"{space} Full, the disks would take {Mebibytes(whole)} MiB.")
            : new RestoreFinding("space", FindingSeverity.Fits, space));
    }

    private static long Mebibytes(long bytes) => (bytes + (1 << 20) - 1) >> 20;

    private static void CompareSectors(IReadOnlyList<(MovableDisk Disk, PlannedMove Move)> moves, TargetStorage storage, List<RestoreFinding> findings)
    {
        if (storage.SectorBytes is not { } sector)
        {
            return;
        }
        foreach (var (disk, move) in moves)
        {
            var before = BlockDevice.Is(disk.Path) ? null : TargetStorage.Of(Path.GetDirectoryName(disk.Path)!).SectorBytes;
            if (before is { } old && old != sector)
            {
                findings.Add(disk.Uncached && move.Disk.LengthBytes % sector != 0
                    ? NewPlaces.Blocks("sector size", $"Disk {move.Disk.Name} has {move.Disk.LengthBytes} bytes, no whole number of sectors of {sector} bytes, and is used past the page cache. Choose another folder.")
                    : new RestoreFinding("sector size", FindingSeverity.Adapts, $"Disk {move.Disk.Name} lies on sectors of {old} bytes and will on such of {sector}; the guest sees no difference."));
            }
        }
    }

    private static void CompareDisk(MovableDisk disk, PlannedMove move, List<RestoreFinding> findings)
    {
        if (Path.Exists(move.NewPath))
        {
            findings.Add(NewPlaces.Blocks("disk", $"{move.NewPath} exists already. Choose another folder, or remove it."));
            return;
        }
        var old = BlockDevice.Is(move.OldPath) ? "the device, which stays as it is" : "a file";
        var changes = move.Format == move.Disk.Format ? "" : $" It becomes {move.Format}.";
        var flat = disk.BuildsOnOthers ? " It becomes one image; those that it builds on stay." : "";
        findings.Add(new RestoreFinding("disk", FindingSeverity.Adapts, $"Disk {move.Disk.Name} ({move.Disk.Format}) moves from {move.OldPath}, {old}, to {move.NewPath}.{changes}{flat}"));
    }
}
