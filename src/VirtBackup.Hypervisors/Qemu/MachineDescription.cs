using System.Text.Json;
using System.Text.Json.Nodes;

namespace VirtBackup.Hypervisors.Qemu;

/// <summary>A disk of a described machine.</summary>
/// <param name="LengthBytes">Null: not known.</param>
internal sealed record DescribedDisk(string Name, string Path, string Format, long? LengthBytes);

/// <summary>
/// Describes a machine by its whole command line, so that two machines can be compared: every option ends up in exactly one
/// place of the description.
/// </summary>
internal static class MachineDescription
{
    // What only QMP knows, of a machine that runs.
    private static readonly string[] Facts = ["architecture", "machineType", "processors", "memoryBytes", "hypervisor"];

    private static readonly HashSet<string> Channels = ["chardev", "qmp", "qmp-pretty", "monitor", "serial", "parallel", "debugcon", "pidfile", "D", "vnc"];

    /// <param name="facts">A neutral description made over QMP; null: only the command line is described.</param>
    public static JsonElement Write(ArgvDocument document, IReadOnlyList<DescribedDisk> disks, JsonElement? facts)
    {
        var options = Argv.Parse(document.Arguments);
        var networks = ReadNetworks(options);
        var description = new JsonObject { ["executable"] = document.Executable, ["workingDirectory"] = document.WorkingDirectory };
        var described = disks.ToDictionary(disk => disk.Name, disk => new JsonObject
        {
            ["name"] = disk.Name, ["path"] = disk.Path, ["format"] = disk.Format, ["lengthBytes"] = disk.LengthBytes,
        }, StringComparer.Ordinal);
        var (cards, channels, storage, devices, others) = (new JsonArray(), new JsonArray(), new JsonArray(), new JsonArray(), new JsonArray());
        foreach (var (number, option) in options.Index())
        {
            var value = option.Value ?? "";
            switch (option.Name)
            {
                case "uuid" or "name" or "machine" or "M" or "cpu" or "smp" or "m":
                    description[option.Name switch { "M" => "machine", "m" => "memory", var name => name }] = value;
                    break;
                case "device" when ReadDevice(value) is { } device && device.Remove("drive", out var drive) && FindDisk(described, device, JsonOption.Text(drive)) is { } disk:
                    disk["device"] = device;
                    break;
                case "device" when ReadDevice(value) is { } card && (card.ContainsKey("netdev") || card.ContainsKey("mac")):
                    cards.Add((JsonNode)ReadCard(card, networks, number));
                    break;
                case "nic" or "net":
                    cards.Add((JsonNode)new JsonObject { ["name"] = $"{option.Name}-{cards.Count}", ["settings"] = value });
                    break;
                case "incoming":
                    break; // how the process was started, not what it is
                case "netdev" when networks.Values.Any(network => network.Value == value && network.Used):
                    break;
                case "drive" or "blockdev":
                    storage.Add((JsonNode)WithoutPaths(value, disks));
                    break;
                case "device":
                    devices.Add((JsonNode)value);
                    break;
                default:
                    (Channels.Contains(option.Name) ? channels : others).Add((JsonNode)$"-{option.Name} {WithoutPaths(value, disks)}".TrimEnd());
                    break;
            }
        }
        description["disks"] = new JsonArray([.. described.Values]);
        description["networkCards"] = cards;
        description["storage"] = storage;
        description["devices"] = devices;
        description["channels"] = channels;
        description["options"] = others;
        foreach (var fact in Facts.Where(fact => facts?.Find(fact) is not null))
        {
            description[fact] = JsonNode.Parse(facts!.Value.GetProperty(fact).GetRawText());
        }
        return JsonSerializer.SerializeToElement(description);
    }

    // The cards refer to networks that may come later.
    private static Dictionary<string, Network> ReadNetworks(IReadOnlyList<ArgvOption> options)
    {
        var networks = new Dictionary<string, Network>(StringComparer.Ordinal);
        foreach (var option in options.Where(option => option is { Name: "netdev", Value: not null }))
        {
            if (ReadDevice(option.Value!) is { } network && JsonOption.Text(network["id"]) is { } id)
            {
                networks[id] = new Network(option.Value!);
            }
        }
        foreach (var option in options.Where(option => option is { Name: "device", Value: not null }))
        {
            if (JsonOption.Text(ReadDevice(option.Value!)?["netdev"]) is { } id && networks.TryGetValue(id, out var network))
            {
                network.Used = true;
            }
        }
        return networks;
    }

    private static JsonObject ReadCard(JsonObject card, Dictionary<string, Network> networks, int number)
    {
        var described = new JsonObject { ["name"] = JsonOption.Text(card["id"]) ?? $"card-{number}" };
        if (card.Remove("netdev", out var id) && JsonOption.Text(id) is { } network)
        {
            described["network"] = networks.TryGetValue(network, out var found) ? found.Value : network;
        }
        foreach (var (key, value) in card.Where(property => property.Key is not ("id" or "name")))
        {
            described[key] = value?.DeepClone();
        }
        return described;
    }

    // In either form, as members; the bare first word is the driver.
    private static JsonObject? ReadDevice(string value)
    {
        if (value.StartsWith('{'))
        {
            return JsonOption.TryParse(value);
        }
        var device = new JsonObject();
        foreach (var (key, text) in OptionText.Parse(value).Parts)
        {
            device[key ?? (device.Count == 0 ? "driver" : text)] = key is null && device.Count > 0 ? "on" : text;
        }
        return device;
    }

    private static JsonObject? FindDisk(Dictionary<string, JsonObject> disks, JsonObject device, string? drive) =>
        disks.GetValueOrDefault(JsonOption.Text(device["id"]) ?? "") ?? disks.GetValueOrDefault(drive ?? "");

    // Where a disk lies is told with the disk.
    private static string WithoutPaths(string value, IReadOnlyList<DescribedDisk> disks)
    {
        foreach (var disk in disks.OrderByDescending(disk => disk.Path.Length))
        {
            value = value.Replace(disk.Path.Replace(",", ",,", StringComparison.Ordinal), $"<disk {disk.Name}>", StringComparison.Ordinal)
                .Replace(disk.Path, $"<disk {disk.Name}>", StringComparison.Ordinal);
        }
        return value;
    }

    private sealed class Network(string value)
    {
        public string Value => value;

        public bool Used { get; set; }
    }
}
