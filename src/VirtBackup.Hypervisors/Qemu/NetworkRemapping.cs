namespace VirtBackup.Hypervisors.Qemu;

/// <summary>Connects the network cards of a stored command line to other networks.</summary>
internal sealed class NetworkRemapping(IReadOnlyList<NetworkMapping> mappings, List<RestoreFinding> findings)
{
    private readonly HashSet<string> _known = new(StringComparer.Ordinal);
    private readonly HashSet<string> _used = new(StringComparer.Ordinal);

    public List<ArgvOption> Apply(List<ArgvOption> options)
    {
        if (mappings.Count == 0)
        {
            return options;
        }
        var result = options.ConvertAll(option => option is { Name: "netdev" or "nic", Value: { } value } ? option with { Value = Rewrite(option.Name, value) } : option);
        foreach (var mapping in mappings.Where(mapping => !_used.Contains(mapping.From)))
        {
            findings.Add(new RestoreFinding("network", FindingSeverity.Blocks, _known.Count == 0
                ? $"The stored machine has no network that could be replaced by {mapping.To}."
                : $"The stored machine has no network '{mapping.From}'. It has {string.Join(", ", _known.Order(StringComparer.Ordinal))}."));
        }
        return result;
    }

    private string Rewrite(string option, string value)
    {
        if (value.StartsWith('{'))
        {
            if (JsonOption.TryParse(value) is not { } json)
            {
                return value;
            }
            var changed = Map(JsonOption.Text(json["type"]) ?? "", key => JsonOption.Text(json[key]));
            return changed is null ? value : Render(changed, JsonOption.Text(json["id"])).ToString();
        }
        var text = OptionText.Parse(value);
        var target = Map(text.Head ?? text["type"] ?? "", key => text[key]);
        if (target is null)
        {
            return value;
        }
        var rewritten = Render(target, text["id"]);
        if (option == "nic")
        {
            rewritten["mac"] = text["mac"];
            rewritten["model"] = text["model"];
        }
        return rewritten.ToString();
    }

    // What the network becomes, or null when no mapping is for it.
    private (string Kind, string Name)? Map(string kind, Func<string, string?> find)
    {
        string?[] names = [find("br") ?? (kind == "bridge" ? "br0" : null), find("ifname"), find("id")];
        _known.UnionWith(names.OfType<string>());
        if (mappings.FirstOrDefault(candidate => names.Contains(candidate.From)) is not { } mapping)
        {
            return null;
        }
        _used.Add(mapping.From);
        findings.Add(new RestoreFinding("network", FindingSeverity.Adapts,
            mapping.To == NetworkMapping.Isolated ? $"The network {mapping.From} becomes one that is connected to nothing." : $"The network {mapping.From} becomes {mapping.To}."));
        return mapping.To == NetworkMapping.Isolated ? ("user", "") : (kind == "tap" && mapping.From == find("ifname") ? "tap" : "bridge", mapping.To);
    }

    private static OptionText Render((string Kind, string Name)? target, string? id)
    {
        var (kind, name) = target!.Value;
        var text = OptionText.Parse(kind);
        text["id"] = id;
        switch (kind)
        {
            case "user":
                text["restrict"] = "on";
                break;
            case "tap":
                text["ifname"] = name;
                text["script"] = "no";
                text["downscript"] = "no";
                break;
            default:
                text["br"] = name;
                break;
        }
        return text;
    }
}
