using System.Xml.Linq;
using VirtBackup.Hypervisors.Libvirt.Native;

namespace VirtBackup.Hypervisors.Libvirt;

/// <summary>The networks of a stored domain: found on this host, and exchanged where the restore asks for it.</summary>
internal sealed class DomainNetworks(LibvirtConnection connection, List<RestoreFinding> findings)
{
    /// <summary>Exchanges networks in a definition.</summary>
    public async Task MapAsync(XElement devices, IReadOnlyList<NetworkMapping> mappings, CancellationToken cancellationToken)
    {
        var cards = devices.Elements("interface").Select(card => (Card: card, Name: NameOf(card))).ToList();
        foreach (var mapping in mappings)
        {
            var chosen = cards.FindAll(card => card.Name == mapping.From);
            if (chosen.Count == 0)
            {
                findings.Add(Blocks(cards.Count == 0 ? $"The stored machine has no network that could be replaced by {mapping.To}."
                    : $"The stored machine has no network '{mapping.From}'. It has {string.Join(", ", cards.Select(card => card.Name).Distinct(StringComparer.Ordinal))}."));
                continue;
            }
            var kind = mapping.To == NetworkMapping.Isolated ? "user" : await FindKindAsync(mapping.To, cancellationToken);
            if (kind is null)
            {
                findings.Add(Blocks($"This host has neither a network of libvirt nor a bridge called {mapping.To}. Make it first, or name another one."));
                continue;
            }
            foreach (var (card, _) in chosen)
            {
                Connect(card, kind, mapping.To);
            }
            findings.Add(new RestoreFinding("network", FindingSeverity.Adapts, mapping.To == NetworkMapping.Isolated
                ? $"The network {mapping.From} becomes one that is connected to nothing: the card's link is down."
                : $"The network {mapping.From} becomes the {(kind == "network" ? "network" : "bridge")} {mapping.To}."));
        }
    }

    /// <summary>Tells whether what a definition's cards need is there.</summary>
    public async Task CheckAsync(XElement devices, CancellationToken cancellationToken)
    {
        var cards = devices.Elements("interface").ToList();
        if (cards.Count == 0)
        {
            findings.Add(Fits("The machine has no network card."));
        }
        foreach (var card in cards)
        {
            await CheckCardAsync(card, cancellationToken);
        }
    }

    private async Task CheckCardAsync(XElement card, CancellationToken cancellationToken)
    {
        switch (card.Text("type"))
        {
            case "bridge" when card.Text("source", "bridge") is { } bridge:
                findings.Add(IsInterface(bridge) ? Fits($"The bridge {bridge} is there.") : Blocks($"This host has no bridge {bridge}. Make it first, or give another one (--map-network {bridge}=OTHER)."));
                break;
            case "direct" when card.Text("source", "dev") is { } device:
                findings.Add(IsInterface(device) ? Fits($"The interface {device} is there.") : Blocks($"This host has no interface {device}. Give another network (--map-network {device}=OTHER)."));
                break;
            case "network" when card.Text("source", "network") is { } name:
                findings.Add(await IsActiveAsync(name, cancellationToken) switch
                {
                    null => Blocks($"libvirt has no network '{name}' here. Define it first (virsh net-define), or give another one (--map-network {name}=OTHER)."),
                    false => Blocks($"The network '{name}' is not active. Start it first (virsh net-start {name})."),
                    _ => Fits($"The network '{name}' is there."),
                });
                break;
            case "user":
                findings.Add(Fits("A network card is connected through QEMU itself, and needs nothing of the host."));
                break;
            case var type:
                findings.Add(new RestoreFinding("network", FindingSeverity.Unknown, $"Whether this host has what a network card of kind '{type}' needs shows when the machine starts."));
                break;
        }
    }

    private static string NameOf(XElement card) =>
        card.Text("source", "network") ?? card.Text("source", "bridge") ?? card.Text("source", "dev") ?? card.Text("type") ?? "user";

    private static void Connect(XElement card, string kind, string name)
    {
        card.SetAttributeValue("type", kind);
        // What belongs to the network that it was.
        card.Elements().Where(child => child.Name.LocalName is "source" or "virtualport" or "vlan" or "backend" or "portForward" or "ip" or "route" or "port" or "link").Remove();
        if (kind == "user")
        {
            card.Elements().Where(child => child.Name.LocalName is "target" or "filterref" or "bandwidth" or "mtu" or "guest" or "script").Remove();
            card.Add(new XElement("link", new XAttribute("state", "down")));
            return;
        }
        card.Add(new XElement("source", new XAttribute(kind, name)));
    }

    // A network of libvirt takes precedence: what it does to its bridge is a part of it.
    private async Task<string?> FindKindAsync(string name, CancellationToken cancellationToken) =>
        await IsActiveAsync(name, cancellationToken) is not null ? "network" : IsInterface(name) && Directory.Exists($"/sys/class/net/{name}/bridge") ? "bridge" : null;

    private Task<bool?> IsActiveAsync(string name, CancellationToken cancellationToken) => connection.QueryAsync(libvirt =>
    {
        using var network = LibvirtCalls.FindNetwork(libvirt, name);
        return network.IsInvalid ? (bool?)null : LibvirtCalls.IsActive(network) == 1;
    }, cancellationToken);

    private static bool IsInterface(string name) => !name.Contains('/', StringComparison.Ordinal) && name is not ("." or "..") && Directory.Exists($"/sys/class/net/{name}");

    private static RestoreFinding Fits(string message) => new("network", FindingSeverity.Fits, message);

    private static RestoreFinding Blocks(string message) => new("network", FindingSeverity.Blocks, message);
}
