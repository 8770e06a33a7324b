using System.Globalization;
using System.Net;
using System.Net.NetworkInformation;

namespace VirtBackup.Hypervisors.Qemu.Comparing;

/// <summary>What the network cards are connected to on the host.</summary>
internal static class NetworkComparison
{
    private const string DefaultBridge = "br0";
    private const string TapScript = "/etc/qemu-ifup";

    public static IReadOnlyList<RestoreFinding> Compare(Comparison comparison)
    {
        var findings = new List<RestoreFinding>();
        foreach (var option in comparison.Options.Where(option => option is { Name: "netdev" or "nic" or "net", Value: not null }))
        {
            if (Describe(option) is { Kind: not ("nic" or "none") } back)
            {
                findings.AddRange(Compare(comparison, back.Kind, back.Get));
            }
        }
        return findings.Count > 0 ? findings : [Found(FindingSeverity.Fits, "The machine is connected to no network.")];
    }

    private static (string Kind, Func<string, string?> Get)? Describe(ArgvOption option)
    {
        if (option.Value!.StartsWith('{'))
        {
            return JsonOption.TryParse(option.Value) is { } json && JsonOption.Text(json["type"]) is { } kind ? (kind, key => JsonOption.Text(json[key])) : null;
        }
        var text = OptionText.Parse(option.Value);
        return (text["type"] ?? text.Head) is { } head ? (head, key => text[key] ?? (text.HasWord(key) ? "on" : null)) : null;
    }

    private static IEnumerable<RestoreFinding> Compare(Comparison comparison, string kind, Func<string, string?> get)
    {
        switch (kind)
        {
            case "user":
                return [CompareForward(comparison, get)];
            case "bridge":
                return [CompareBridge(get("br") ?? DefaultBridge)];
            case "tap" when get("br") is { } bridge:
                return [CompareBridge(bridge)];
            case "tap":
                return [CompareTap(get("ifname"), get("script"))];
            case "vhost-vdpa" when get("vhostdev") is { } device:
                return [Path.Exists(device) ? Found(FindingSeverity.Fits, $"{device} is there.") : Found(FindingSeverity.Blocks, $"The network device {device} does not exist on this host.")];
            case "socket" or "stream" or "dgram" or "l2tpv3" or "vde" or "vhost-user" or "af-xdp" or "netmap":
                return [Found(FindingSeverity.Unknown, $"A network card is connected through '{kind}': whether its other end is there shows when the machine starts.")];
            default:
                return [Found(FindingSeverity.Unknown, $"A network card is connected through '{kind}', which cannot be judged.")];
        }
    }

    private static RestoreFinding CompareBridge(string bridge) => Exists(bridge)
        ? Found(FindingSeverity.Fits, $"The bridge {bridge} is there.")
        : Found(FindingSeverity.Blocks, $"The network bridge {bridge} does not exist on this host. Make it (ip link add {bridge} type bridge; ip link set {bridge} up), or restore on a host that has it.");

    private static RestoreFinding CompareTap(string? name, string? script)
    {
        if (script is not "no" && !File.Exists(script ?? TapScript))
        {
            return Found(FindingSeverity.Blocks, $"A network card is a tap interface that {script ?? TapScript} connects, and this host does not have that script. Copy it there.");
        }
        if (!Path.Exists("/dev/net/tun"))
        {
            return Found(FindingSeverity.Blocks, "A network card is a tap interface, and this host has no /dev/net/tun. Load the tun module.");
        }
        return (name, script) switch
        {
            ({ } there, _) when Exists(there) => Found(FindingSeverity.Unknown, $"The tap interface {there} is there; whether another machine uses it shows when this one starts."),
            ({ } made, "no") => Found(FindingSeverity.Adapts, $"The tap interface {made} does not exist on this host: QEMU makes it, connected to nothing. Make it and add it to its bridge first, if the machine needs the network."),
            _ => Found(FindingSeverity.Fits, "A tap interface is made when the machine starts."),
        };
    }

    private static RestoreFinding CompareForward(Comparison comparison, Func<string, string?> get)
    {
        if (get("hostfwd") is not { } rule || rule.Split(':') is not [var protocol, var address, .. var rest] || rest.Length == 0)
        {
            return Found(FindingSeverity.Fits, "A network card is connected through QEMU itself, and needs nothing of the host.");
        }
        var text = rest[0].Split('-')[0];
        if (!int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var port))
        {
            return Found(FindingSeverity.Unknown, $"The port that is forwarded to the machine cannot be judged: {rule}.");
        }
        if (!IsTaken(protocol, address, port))
        {
            return Found(FindingSeverity.Fits, $"Port {port}, which is forwarded to the machine, is free.");
        }
        return Found(comparison.Request.Start ? FindingSeverity.Blocks : FindingSeverity.Adapts,
            $"Port {port} is forwarded to the machine ({rule}), and something listens there on this host. Stop it, or restore with --no-start and change launch.sh.");
    }

    private static bool IsTaken(string protocol, string address, int port)
    {
        var properties = IPGlobalProperties.GetIPGlobalProperties();
        var taken = protocol == "udp" ? properties.GetActiveUdpListeners() : properties.GetActiveTcpListeners();
        var asked = IPAddress.TryParse(address, out var parsed) ? parsed : IPAddress.Any;
        return taken.Any(end => end.Port == port && (asked.Equals(IPAddress.Any) || end.Address.Equals(asked) || end.Address.Equals(IPAddress.Any) || end.Address.Equals(IPAddress.IPv6Any)));
    }

    private static bool Exists(string name) => !name.Contains('/', StringComparison.Ordinal) && Path.Exists($"/sys/class/net/{name}");

    private static RestoreFinding Found(FindingSeverity severity, string message) => new("network", severity, message);
}
