using System.Globalization;
using System.Text;
using System.Xml.Linq;
using VirtBackup.Core;

namespace VirtBackup.Hypervisors.Libvirt;

/// <summary>What a disk was when a checkpoint was made.</summary>
/// <param name="Layers">Paths of its image and of what it was built on, topmost first.</param>
internal sealed record CheckpointedDisk(string Target, long LengthBytes, IReadOnlyList<string> Layers);

/// <summary>
/// A checkpoint of ours. It is named <c>virtbackup-POINT</c>, and so are its bitmaps; its description says how long every
/// disk was and where its image lay, because neither libvirt nor the bitmap tells: a disk that was resized, or whose image
/// came from elsewhere, must not pass for the one that the point holds.
/// </summary>
/// <param name="Tracked">Targets that have a bitmap of this checkpoint; with its dirty bytes where it is known to be whole.</param>
internal sealed record CheckpointRecord(Id16 Point, IReadOnlyList<CheckpointedDisk> Disks, IReadOnlyDictionary<string, long?> Tracked)
{
    private const string Prefix = "virtbackup-";
    private const string Mark = "virtbackup disks 1";
    private const int LayersMax = 64;

    public static string NameOf(Id16 point) => $"{Prefix}{point}";

    public static bool TryReadName(string name, out Id16 point)
    {
        point = default;
        return name.StartsWith(Prefix, StringComparison.Ordinal) && Id16.TryParse(name[Prefix.Length..], out point) && NameOf(point) == name;
    }

    /// <summary>Null: not ours. A description that is not ours reads as one without disks: nothing is known of them then.</summary>
    public static CheckpointRecord? Parse(string xml)
    {
        var root = BoundedXml.Parse(xml, "domaincheckpoint");
        if (root.Element("name")?.Value is not { } name || !TryReadName(name, out var point))
        {
            return null;
        }
        var tracked = new Dictionary<string, long?>(StringComparer.Ordinal);
        foreach (var disk in root.Element("disks")?.Elements("disk") ?? [])
        {
            if (disk.Text("checkpoint") == "bitmap" && disk.Text("name") is { } target)
            {
                tracked[target] = long.TryParse(disk.Text("size"), NumberStyles.None, CultureInfo.InvariantCulture, out var size) ? size : null;
            }
        }
        return new CheckpointRecord(point, ReadDisks(root.Element("description")?.Value), tracked);
    }

    /// <summary>The document that begins tracking since a point, on the disks that can keep a bitmap.</summary>
    public static string Write(Id16 point, IEnumerable<DomainDisk> all, IReadOnlyList<CheckpointedDisk> tracked) =>
        Describe(point, all, tracked).ToString(SaveOptions.DisableFormatting);

    /// <summary>The same for a machine that is off, whose bitmaps are made by others: libvirt is only told.</summary>
    /// <param name="after">The name of the checkpoint before it, or null.</param>
    /// <param name="madeAt">Seconds since 1970.</param>
    public static string WriteMade(Id16 point, IEnumerable<DomainDisk> all, IReadOnlyList<CheckpointedDisk> tracked, string? after, long madeAt)
    {
        var document = Describe(point, all, tracked);
        document.Element("description")!.AddAfterSelf(
            after is null ? null : new XElement("parent", new XElement("name", after)), new XElement("creationTime", madeAt.ToString(CultureInfo.InvariantCulture)));
        return document.ToString(SaveOptions.DisableFormatting);
    }

    /// <summary>What tells which disks a checkpoint was made of.</summary>
    public static string DescriptionOf(IEnumerable<CheckpointedDisk> disks)
    {
        var description = new StringBuilder(Mark);
        foreach (var disk in disks)
        {
            description.Append(CultureInfo.InvariantCulture, $";{disk.Target} {disk.LengthBytes}");
            foreach (var layer in disk.Layers.Take(LayersMax))
            {
                description.Append(' ').Append(Convert.ToBase64String(Encoding.UTF8.GetBytes(layer)));
            }
        }
        return description.ToString();
    }

    private static XElement Describe(Id16 point, IEnumerable<DomainDisk> all, IReadOnlyList<CheckpointedDisk> tracked)
    {
        var targets = tracked.Select(disk => disk.Target).ToHashSet(StringComparer.Ordinal);
        return new XElement("domaincheckpoint",
            new XElement("name", NameOf(point)),
            new XElement("description", DescriptionOf(tracked)),
            new XElement("disks", all.Select(disk => new XElement("disk",
                new XAttribute("name", disk.Target), new XAttribute("checkpoint", targets.Contains(disk.Target) ? "bitmap" : "no")))));
    }

    /// <summary>The document that makes libvirt know again a checkpoint whose bitmap lies on one disk.</summary>
    public static string WriteKnown(Id16 point, IEnumerable<DomainDisk> all, string target) =>
        new XElement("domaincheckpoint",
            new XElement("name", NameOf(point)),
            new XElement("creationTime", "0"),
            new XElement("disks", all.Select(disk => new XElement("disk",
                new XAttribute("name", disk.Target), new XAttribute("checkpoint", disk.Target == target ? "bitmap" : "no"))))).ToString(SaveOptions.DisableFormatting);

    private static List<CheckpointedDisk> ReadDisks(string? description)
    {
        var disks = new List<CheckpointedDisk>();
        if (description?.Split(';') is not [Mark, .. var parts])
        {
            return disks;
        }
        foreach (var part in parts)
        {
            if (part.Split(' ') is not [{ Length: > 0 } target, var length, .. { Length: <= LayersMax } layers]
                || !long.TryParse(length, NumberStyles.None, CultureInfo.InvariantCulture, out var bytes))
            {
                return [];
            }
            try
            {
                disks.Add(new CheckpointedDisk(target, bytes, [.. layers.Select(layer => Encoding.UTF8.GetString(Convert.FromBase64String(layer)))]));
            }
            catch (FormatException)
            {
                return [];
            }
        }
        return disks;
    }
}
