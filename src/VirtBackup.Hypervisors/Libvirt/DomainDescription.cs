using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Xml.Linq;
using VirtBackup.Core;

namespace VirtBackup.Hypervisors.Libvirt;

/// <summary>
/// A domain's definition member by member, so that what was captured and what a restore made can be compared completely.
/// What libvirt makes for one run, or puts into every definition, is left out. Pure logic.
/// </summary>
internal static class DomainDescription
{
    /// <summary>A machine as libvirt has it.</summary>
    public static JsonElement Of(DomainView view) =>
        Write(BoundedXml.Parse(view.Xml, "domain"), view.Disks.ToDictionary(disk => disk.Target, disk => disk.LengthBytes, StringComparer.Ordinal));

    /// <summary>The machine of a recovery point. Null: its configuration cannot be read.</summary>
    public static JsonElement? OfStored(MachineConfiguration configuration)
    {
        try
        {
            return Write(BoundedXml.Parse(Encoding.UTF8.GetString(configuration.Native.Span), "domain"), LengthsOf(configuration.Neutral));
        }
        catch (FaultException)
        {
            return null;
        }
    }

    private static JsonElement Write(XElement root, IReadOnlyDictionary<string, long> lengths)
    {
        var domain = Describe(root);
        domain.Remove("id");
        if (root.Element("devices") is { } devices)
        {
            domain.Remove("devices");
            foreach (var kind in devices.Elements().Where(device => !IsImplicit(device)).GroupBy(device => device.Name.LocalName, StringComparer.Ordinal))
            {
                domain[kind.Key == "disk" ? "disks" : kind.Key] = new JsonArray([.. kind.Select(device => DescribeDevice(device, lengths))]);
            }
        }
        return JsonSerializer.SerializeToElement(domain);
    }

    private static JsonNode? DescribeDevice(XElement device, IReadOnlyDictionary<string, long> lengths)
    {
        if (!device.HasElements && !device.HasAttributes)
        {
            return JsonValue.Create(device.Value);
        }
        var described = Describe(device);
        var name = device.Name.LocalName switch
        {
            "disk" => device.Text("target", "dev"),
            "controller" => $"{device.Text("type")}{device.Text("index")}",
            _ => null,
        };
        if (name is not null)
        {
            described["name"] = name;
        }
        if (device.Name.LocalName == "disk" && name is not null && lengths.TryGetValue(name, out var length))
        {
            described["lengthBytes"] = length;
        }
        return described;
    }

    // Attributes and children are members; children that share a name are a list.
    private static JsonObject Describe(XElement element)
    {
        var described = new JsonObject();
        foreach (var attribute in element.Attributes().Where(attribute => !attribute.IsNamespaceDeclaration && !IsOfOneRun(attribute)))
        {
            described[attribute.Name.LocalName] = attribute.Value;
        }
        foreach (var children in element.Elements().Where(child => !IsOfOneRun(child)).GroupBy(child => child.Name.LocalName, StringComparer.Ordinal))
        {
            var list = children.Select(Value).ToList();
            described[described.ContainsKey(children.Key) ? $"{children.Key}Element" : children.Key] = list is [var single] && !children.First().HasName() ? single : new JsonArray([.. list]);
        }
        if (!element.HasElements && element.Value.Trim() is { Length: > 0 } text)
        {
            described[described.ContainsKey("value") ? "text" : "value"] = text;
        }
        return described;
    }

    private static JsonNode? Value(XElement element) => element.HasElements || element.HasAttributes ? Describe(element) : element.Value.Trim() is { Length: > 0 } text ? JsonValue.Create(text) : JsonValue.Create(true);

    private static bool HasName(this XElement element) => element.Attribute("name") is not null && element.Name.LocalName is "feature" or "timer" or "entry" or "parameter";

    // Made by libvirt whether the definition names it or not; what is migrated does not name it.
    private static bool IsImplicit(XElement device) =>
        (device.Name == "input" && device.Text("bus") == "ps2") || (device.Name == "audio" && device.Text("type") == "none");

    private static bool IsOfOneRun(XElement element) => element.Name.LocalName switch
    {
        "alias" => element.Text("name")?.StartsWith("ua-", StringComparison.Ordinal) != true,
        "backingStore" => !element.HasElements,
        "seclabel" => element.Text("type") == "dynamic",
        "source" => element.Text("path")?.Contains("/channel/target/domain-", StringComparison.Ordinal) == true,
        "target" => element.Text("dev")?.StartsWith("vnet", StringComparison.Ordinal) == true && element.Parent?.Name == "interface",
        _ => false,
    };

    private static bool IsOfOneRun(XAttribute attribute) => (attribute.Parent?.Name.LocalName, attribute.Name.LocalName) switch
    {
        ("source", "index" or "portid") => true,
        ("target", "state") => true,
        _ => false,
    };

    private static Dictionary<string, long> LengthsOf(JsonElement neutral)
    {
        var lengths = new Dictionary<string, long>(StringComparer.Ordinal);
        if (neutral.ValueKind == JsonValueKind.Object && neutral.TryGetProperty("disks", out var disks) && disks.ValueKind == JsonValueKind.Array)
        {
            foreach (var disk in disks.EnumerateArray().Where(disk => disk.ValueKind == JsonValueKind.Object))
            {
                if (disk.TryGetProperty("name", out var name) && name.ValueKind == JsonValueKind.String && disk.TryGetProperty("lengthBytes", out var length) && length.TryGetInt64(out var bytes))
                {
                    lengths[name.GetString()!] = bytes;
                }
            }
        }
        return lengths;
    }
}
