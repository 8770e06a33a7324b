using System.Globalization;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace VirtBackup.Hypervisors.Libvirt;

/// <summary>Describes a machine: natively by its domain XML, neutrally by what the XML says.</summary>
internal static class LibvirtDescriber
{
    public const string Kind = "libvirt-xml";

    public static MachineConfiguration Describe(DomainView view)
    {
        var root = view.Document.Root;
        var type = root.Element("os")?.Element("type");
        var neutral = new JsonObject
        {
            ["uuid"] = view.Document.Uuid.ToUuidString(),
            ["name"] = view.Document.Name,
            ["architecture"] = type?.Text("arch"),
            ["machineType"] = type?.Text("machine"),
            ["processors"] = int.TryParse(root.Element("vcpu")?.Value, NumberStyles.None, CultureInfo.InvariantCulture, out var processors) ? processors : 1,
            ["memoryBytes"] = view.Document.MemoryBytes ?? 0,
            ["firmware"] = root.Element("os")?.Element("loader") is not null || root.Element("os")?.Text("firmware") == "efi" ? "uefi" : "bios",
            ["hypervisor"] = "libvirt " + root.Text("type"),
            ["disks"] = new JsonArray([.. view.Disks.Select(disk => new JsonObject
            {
                ["id"] = disk.Summary.Id.ToString(), ["name"] = disk.Target, ["lengthBytes"] = disk.LengthBytes, ["format"] = disk.Format,
                ["path"] = disk.Source.Path, ["bus"] = BusOf(view, disk.Target), ["skipReason"] = disk.Summary.SkipReason,
            })]),
            ["networkCards"] = new JsonArray([.. (root.Element("devices")?.Elements("interface") ?? []).Select(card => new JsonObject
            {
                ["model"] = card.Text("model", "type"), ["mac"] = card.Text("mac", "address"),
                ["network"] = card.Text("source", "network") ?? card.Text("source", "bridge") ?? card.Text("source", "dev") ?? card.Text("type"),
            })]),
            ["hostDevices"] = new JsonArray([.. view.Document.HostDevices.Select(device => JsonValue.Create(device))]),
        };
        return new MachineConfiguration(view.Document.Name, JsonSerializer.SerializeToElement(neutral), Kind, Encoding.UTF8.GetBytes(view.Xml));
    }

    private static string? BusOf(DomainView view, string target) =>
        (view.Document.Root.Element("devices")?.Elements("disk") ?? []).FirstOrDefault(disk => disk.Text("target", "dev") == target)?.Text("target", "bus");
}
