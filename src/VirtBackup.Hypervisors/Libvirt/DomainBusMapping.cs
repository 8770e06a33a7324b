using System.Globalization;
using System.Xml.Linq;

namespace VirtBackup.Hypervisors.Libvirt;

/// <summary>
/// Attaches disks of a domain's definition to another bus. A disk keeps its target name, which is what it is known by. Not
/// safe for concurrent use.
/// </summary>
internal sealed class DomainBusMapping(XElement root, List<RestoreFinding> findings)
{
    private const int SataPorts = 6, ScsiUnits = 7, IdeBuses = 2, IdeUnits = 2, ControllersMax = 16;

    // What libvirt accepts for virtio disks only.
    private static readonly string[] OfVirtio = ["iothread", "ioeventfd", "event_idx", "queues", "queue_size", "packed", "ats", "iommu", "page_per_vq"];
    private readonly XElement _devices = root.Element("devices")!;

    public void Attach(XElement disk, string name, string bus)
    {
        var target = disk.Element("target")!;
        if (bus == target.Text("bus"))
        {
            findings.Add(new RestoreFinding("disk bus", FindingSeverity.Fits, $"Disk {name} stays on {bus}."));
            return;
        }
        var machine = root.Element("os")?.Element("type")?.Text("machine") ?? "";
        if (bus is not ("virtio" or "scsi" or "ide" or "sata"))
        {
            findings.Add(Blocks($"Disk {name} cannot be attached to '{bus}'; virtio, scsi, ide and sata are possible."));
            return;
        }
        if (bus == "ide" && machine.Contains("q35", StringComparison.Ordinal))
        {
            findings.Add(Blocks($"Disk {name} cannot be attached to ide: the machine type {machine} has no such controller. Choose sata."));
            return;
        }
        var place = bus == "virtio" ? null : FindPlace(bus, disk);
        if (place is null && bus != "virtio")
        {
            findings.Add(Blocks($"There is no place for disk {name} on {bus}. Choose another bus."));
            return;
        }
        target.SetAttributeValue("bus", bus);
        // Their meaning, or their right to be there, belongs to the bus that it was.
        target.Attribute("rotation_rate")?.Remove();
        target.Attribute("removable")?.Remove();
        disk.Attribute("model")?.Remove();
        disk.Elements().Where(child => child.Name.LocalName is "address" or "vendor" or "product" || (child.Name == "wwn" && bus == "virtio")).Remove();
        foreach (var driver in disk.Elements("driver"))
        {
            driver.Attributes().Where(attribute => OfVirtio.Contains(attribute.Name.LocalName)).Remove();
            driver.Elements("iothreads").Remove();
        }
        if (place is not null)
        {
            disk.Add(place);
        }
        findings.Add(new RestoreFinding("disk bus", FindingSeverity.Adapts, $"Disk {name} is attached to {bus}; the guest needs a driver for it."));
    }

    private XElement? FindPlace(string bus, XElement moved)
    {
        var taken = _devices.Elements("disk").Where(disk => disk != moved && disk.Text("target", "bus") == bus).Select(disk => disk.Element("address")).OfType<XElement>()
            .Select(address => (Number(address, "controller"), Number(address, "bus"), Number(address, "unit"))).ToHashSet();
        var first = bus == "scsi" ? FindScsiController() : 0;
        for (var controller = first; controller < (bus == "sata" ? ControllersMax : first + 1); controller++)
        {
            for (var at = 0; at < (bus == "ide" ? IdeBuses : 1); at++)
            {
                for (var unit = 0; unit < (bus switch { "sata" => SataPorts, "ide" => IdeUnits, _ => ScsiUnits }); unit++)
                {
                    if (!taken.Contains((controller, at, unit)))
                    {
                        return new XElement("address", new XAttribute("type", "drive"), new XAttribute("controller", controller), new XAttribute("bus", at),
                            new XAttribute("target", 0), new XAttribute("unit", unit));
                    }
                }
            }
        }
        return null;
    }

    // Guests have drivers for virtio-scsi where they have virtio drivers at all; what libvirt would choose is older than most of them.
    private int FindScsiController()
    {
        var all = _devices.Elements("controller").Where(controller => controller.Text("type") == "scsi").ToList();
        if (all.Find(controller => controller.Text("model")?.StartsWith("virtio", StringComparison.Ordinal) == true && controller.Text("driver", "iothread") is null) is { } there)
        {
            return Number(there, "index");
        }
        var index = all.Count == 0 ? 0 : all.Max(controller => Number(controller, "index")) + 1;
        _devices.Add(new XElement("controller", new XAttribute("type", "scsi"), new XAttribute("index", index), new XAttribute("model", "virtio-scsi")));
        return index;
    }

    private static int Number(XElement element, string attribute) =>
        int.TryParse(element.Text(attribute), NumberStyles.None, CultureInfo.InvariantCulture, out var number) ? number : 0;

    private static RestoreFinding Blocks(string message) => new("disk bus", FindingSeverity.Blocks, message);
}
