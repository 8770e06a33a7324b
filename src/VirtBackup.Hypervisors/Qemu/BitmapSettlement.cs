using System.Text.Json.Nodes;
using VirtBackup.Core;

namespace VirtBackup.Hypervisors.Qemu;

/// <summary>
/// Decides what becomes of our bitmaps. Every cut disables the bitmap of the base and starts one for the new point, in
/// one transaction: so at most one bitmap of a disk records, and it is the newest. Pure logic.
/// </summary>
internal static class BitmapSettlement
{
    /// <param name="Base">The point whose tracking stays.</param>
    /// <param name="Actions">Members of one QMP transaction; empty when all is settled.</param>
    public sealed record Outcome(Id16? Base, JsonArray Actions);

    /// <summary>Settles all disks, given which points are committed.</summary>
    public static Outcome Decide(IEnumerable<QemuDisk> disks, Func<Id16, bool> committed)
    {
        var kept = disks.Select(disk => (Disk: disk, Keep: Keep(disk, committed))).ToList();
        var winner = kept.Where(entry => entry.Keep is not null)
            .GroupBy(entry => entry.Keep!.Name.Point)
            .OrderByDescending(group => group.Count()).ThenBy(group => group.Sum(entry => entry.Keep!.Count)).ThenBy(group => group.Key)
            .Select(group => (Id16?)group.Key).FirstOrDefault();
        var actions = new JsonArray();
        foreach (var (disk, keep) in kept)
        {
            Settle(disk, keep?.Name.Point == winner ? keep : null, actions);
        }
        return new Outcome(winner, actions);
    }

    /// <summary>The bitmap to go on with: the recording one if its point is committed, else the frozen one of its base.</summary>
    private static TrackingBitmap? Keep(QemuDisk disk, Func<Id16, bool> committed)
    {
        var usable = disk.Bitmaps.Where(bitmap => IsUsable(disk, bitmap)).ToList();
        var recording = usable.Where(bitmap => bitmap.Recording).ToList();
        var current = recording.Where(bitmap => committed(bitmap.Name.Point)).MinBy(bitmap => bitmap.Count);
        if (current is not null)
        {
            return current;
        }
        // With two frozen ones their order is unknown, and so is what either misses: reading in full is the safe way.
        var frozen = usable.Where(bitmap => !bitmap.Recording).ToList();
        return recording.Count == 1 && frozen.Count == 1 && committed(frozen[0].Name.Point) ? frozen[0] : null;
    }

    private static void Settle(QemuDisk disk, TrackingBitmap? keep, JsonArray actions)
    {
        if (keep is { Recording: false })
        {
            var later = disk.Bitmaps.Single(bitmap => bitmap.Recording && IsUsable(disk, bitmap));
            actions.Add((JsonNode)Action("merge", new JsonObject
            {
                ["node"] = disk.Node, ["target"] = keep.Name.ToString(), ["bitmaps"] = new JsonArray(later.Name.ToString()),
            }));
            actions.Add((JsonNode)Named("enable", disk.Node, keep.Name));
        }
        foreach (var bitmap in disk.Bitmaps)
        {
            // What cannot be used explains the next full read; it goes when there is something better.
            if (bitmap != keep && (keep is not null || IsUsable(disk, bitmap)))
            {
                actions.Add((JsonNode)Named("remove", disk.Node, bitmap.Name));
            }
        }
    }

    /// <summary>The transaction of the cut: tracking since the new point begins on every disk, tracking since the base ends.</summary>
    public static JsonArray CutActions(IEnumerable<QemuDisk> disks, Id16 point)
    {
        var actions = new JsonArray();
        foreach (var disk in disks)
        {
            actions.Add((JsonNode)Action("add", new JsonObject
            {
                ["node"] = disk.Node, ["name"] = TrackingName.For(point, disk.Summary).ToString(),
                ["persistent"] = disk.KeepsBitmaps, ["granularity"] = Granularity,
            }));
            foreach (var bitmap in disk.Bitmaps.Where(bitmap => bitmap.Recording && IsUsable(disk, bitmap)))
            {
                actions.Add((JsonNode)Named("disable", disk.Node, bitmap.Name));
            }
        }
        return actions;
    }

    public const int Granularity = 64 << 10;

    public static bool IsUsable(QemuDisk disk, TrackingBitmap bitmap) => !bitmap.Inconsistent && bitmap.Name.Fits(disk.Summary);

    /// <summary>The bitmap to read changes since <paramref name="point"/> by, or null, with the reason for people.</summary>
    public static (TrackingBitmap? Bitmap, string Reason) ChooseBase(QemuDisk disk, Id16? point)
    {
        var candidates = disk.Bitmaps.Where(bitmap => point is null || bitmap.Name.Point == point).ToList();
        if (point is not null && candidates.Find(bitmap => bitmap.Recording && IsUsable(disk, bitmap)) is { } usable)
        {
            return (usable, "changed blocks only");
        }
        var reason =
            candidates.Exists(bitmap => bitmap.Inconsistent) ? "read in full: its change tracking is inconsistent, since QEMU was not shut down cleanly"
            : candidates.Find(bitmap => bitmap.Name.Disk != TrackingName.For(default, disk.Summary).Disk) is not null
                ? "read in full: its image was attached to another device when the last recovery point was made"
            : candidates.Find(bitmap => bitmap.Name.LengthBytes != disk.Summary.LengthBytes) is { } other
                ? $"read in full: it was resized from {other.Name.LengthBytes} to {disk.Summary.LengthBytes} bytes"
            : point is null ? "read in full: no change tracking since an earlier recovery point is there to build on"
            : disk.KeepsBitmaps ? "read in full: it was not part of the last recovery point, or its change tracking was removed"
            : "read in full: it was not part of the last recovery point, or QEMU was restarted and an image of this format cannot keep change tracking";
        return (null, reason);
    }

    private static JsonObject Named(string verb, string node, TrackingName name) =>
        Action(verb, new JsonObject { ["node"] = node, ["name"] = name.ToString() });

    private static JsonObject Action(string verb, JsonObject data) => new() { ["type"] = $"block-dirty-bitmap-{verb}", ["data"] = data };
}
