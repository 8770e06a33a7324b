using System.Globalization;
using System.Xml.Linq;
using VirtBackup.Core;
using VirtBackup.Hypervisors.Qemu;

namespace VirtBackup.Hypervisors.Libvirt;

/// <summary>A disk as the domain's XML describes it.</summary>
/// <param name="Target">The device's name in the machine (<c>vda</c>); unique.</param>
/// <param name="Path">Its file or block device; null for other kinds.</param>
/// <param name="Layers">The paths of the image and of what it is built on, topmost first, as far as the XML tells.</param>
/// <param name="SkipReason">Why its kind is not captured, or null.</param>
/// <param name="IoThread">It is served by an I/O thread.</param>
internal sealed record DomainDisk(string Target, string? Path, string Format, IReadOnlyList<string> Layers, string? SkipReason, bool IoThread);

/// <summary>The parts of a domain's XML (libvirt, formatdomain) that this driver acts on.</summary>
internal sealed class DomainDocument
{
    private const int DisksMax = 512;
    private readonly XElement root;

    private DomainDocument(XElement root) => this.root = root;

    public required Id16 Uuid { get; init; }

    public required string Name { get; init; }

    public required IReadOnlyList<DomainDisk> Disks { get; init; }

    /// <summary>Kinds of the host devices handed to the guest (<c>pci</c>, <c>usb</c>, <c>scsi</c>).</summary>
    public required IReadOnlyList<string> HostDevices { get; init; }

    /// <summary>Names for those of them that are disks.</summary>
    public IEnumerable<string> HostDisks => HostDevices.Index().Where(device => device.Item == "scsi").Select(device => $"hostdev{device.Index}");

    public XElement Root => root;

    /// <summary>Null: it does not tell.</summary>
    public long? MemoryBytes => long.TryParse(root.Element("memory")?.Value, NumberStyles.None, CultureInfo.InvariantCulture, out var kibibytes) ? kibibytes << 10 : null;

    /// <exception cref="FaultException"><see cref="FaultReason.Malformed"/>.</exception>
    public static DomainDocument Parse(string xml)
    {
        var root = BoundedXml.Parse(xml, "domain");
        if (!Id16.TryParse(root.Element("uuid")?.Value, out var uuid) || root.Element("name")?.Value is not { Length: > 0 and <= 255 } name)
        {
            throw FaultException.Malformed("The domain's XML has no UUID or no name.");
        }
        var devices = root.Element("devices");
        var threaded = (devices?.Elements("controller") ?? []).Where(controller => controller.Text("driver", "iothread") is not null)
            .Select(controller => (controller.Text("type"), controller.Text("index"))).ToHashSet();
        var disks = (devices?.Elements("disk") ?? []).Select(disk => ReadDisk(disk, threaded)).ToList();
        if (disks.Count > DisksMax || disks.Select(disk => disk.Target).Distinct(StringComparer.Ordinal).Count() < disks.Count)
        {
            throw FaultException.Malformed($"The domain {name} has more than {DisksMax} disks, or two with one target.");
        }
        return new DomainDocument(root)
        {
            Uuid = uuid, Name = name, Disks = disks,
            HostDevices = [.. (devices?.Elements("hostdev") ?? []).Select(device => device.Text("type") ?? "unknown")],
        };
    }

    /// <summary>User and group of the machine's QEMU process, where libvirt tells.</summary>
    public (int User, int Group)? FindOwner()
    {
        var label = root.Elements("seclabel").FirstOrDefault(label => label.Text("model") == "dac")?.Element("label")?.Value;
        return label?.Split(':') is [['+', .. var user], ['+', .. var group]]
            && int.TryParse(user, NumberStyles.None, CultureInfo.InvariantCulture, out var uid) && int.TryParse(group, NumberStyles.None, CultureInfo.InvariantCulture, out var gid)
            ? (uid, gid) : null;
    }

    public static Id16 DiskId(Id16 machine, string target) => CaptureNames.DiskId(machine, target);

    private static DomainDisk ReadDisk(XElement disk, HashSet<(string?, string?)> threaded)
    {
        if (disk.Text("target", "dev") is not { Length: > 0 and <= 64 } target || !target.All(c => char.IsAsciiLetterOrDigit(c) || c is '-' or '_' or '.'))
        {
            throw FaultException.Malformed("A disk of the domain has no target, or one that no device has.");
        }
        var source = disk.Element("source");
        var type = disk.Text("type") ?? "file";
        var path = type == "file" ? source?.Text("file") : type == "block" ? source?.Text("dev") : null;
        var bus = disk.Text("target", "bus");
        var index = disk.Element("address")?.Text("controller") ?? "0";
        return new DomainDisk(target, path, disk.Text("driver", "type") ?? "raw", ReadLayers(disk, path), SkipReasonOf(disk, type, path),
            disk.Text("driver", "iothread") is not null || (bus == "scsi" && threaded.Contains(("scsi", index))));
    }

    private static string? SkipReasonOf(XElement disk, string type, string? path) => disk.Text("device") switch
    {
        "cdrom" => "it is a CD-ROM drive",
        "floppy" => "it is a floppy drive",
        "lun" => "the guest talks to the device directly (SCSI passthrough)",
        _ when disk.Element("transient") is not null => "it is transient: what the guest writes is thrown away when it stops",
        _ when disk.Element("readonly") is not null => "it is read-only",
        _ when disk.Element("shareable") is not null => "it is shared with other machines, which would write to it during the backup",
        _ when type == "network" => $"it is a network disk ({disk.Text("source", "protocol") ?? "unknown protocol"}), which is not supported; back it up where it is stored",
        _ when type is not ("file" or "block") => $"its kind of source ('{type}') is not supported; files and block devices are",
        _ when path is null => "it has no medium",
        _ => null,
    };

    private static List<string> ReadLayers(XElement disk, string? path)
    {
        var layers = new List<string>();
        if (path is not null)
        {
            layers.Add(path);
        }
        for (var layer = disk.Element("backingStore"); layer is not null; layer = layer.Element("backingStore"))
        {
            if ((layer.Text("source", "file") ?? layer.Text("source", "dev")) is { } below)
            {
                layers.Add(below);
            }
        }
        return layers;
    }
}
