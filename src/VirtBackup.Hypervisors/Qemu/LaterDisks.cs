using System.Text.Json;
using System.Text.Json.Nodes;

namespace VirtBackup.Hypervisors.Qemu;

/// <summary>
/// A machine whose disks are not those that its process was started with any more: an overlay was put on one, another was
/// plugged in. Says what the command line would be, so that a restore starts the machine as it was at the cut.
/// </summary>
internal static class LaterDisks
{
    // As people write JSON: only what must be is escaped.
    private static readonly JsonSerializerOptions Plain = new() { Encoder = System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    /// <returns>The arguments, with a disk that was plugged in appended; and each disk under the file name that the arguments know it by.</returns>
    public static async Task<(IReadOnlyList<string> Arguments, IReadOnlyList<ArgvDisk> Disks)> NameAsync(
        QmpClient qmp, IReadOnlyList<string> arguments, IReadOnlyList<QemuDisk> disks, CancellationToken cancellationToken)
    {
        Dictionary<string, IReadOnlyList<string>>? below = null;
        var all = new List<string>(arguments);
        var named = new List<ArgvDisk>(disks.Count);
        foreach (var disk in disks)
        {
            var file = disk.File;
            if (!Names(arguments, file))
            {
                below ??= ReadChains(await qmp.ExecuteAsync("query-block", null, cancellationToken));
                if (below.GetValueOrDefault(disk.Node)?.FirstOrDefault(lower => Names(arguments, lower)) is { } lower)
                {
                    file = lower;
                }
                else if (await DescribeAsync(qmp, disk, cancellationToken) is { } options)
                {
                    all.AddRange(options);
                }
            }
            named.Add(new ArgvDisk(disk.Summary.Id.ToString(), disk.Summary.Name, file, disk.Summary.Format, disk.Captured));
        }
        return (all, named);
    }

    /// <summary>Whether an argument names a file: as a whole, or up to the end of an option's value.</summary>
    internal static bool Names(IReadOnlyList<string> arguments, string file)
    {
        if (file.Length == 0)
        {
            return false;
        }
        string[] spellings = [file.Replace(",", ",,", StringComparison.Ordinal), JsonSerializer.Serialize(file, Plain)[1..^1]];
        return arguments.Any(argument => spellings.Any(spelling => EndsValue(argument, spelling)));
    }

    private static bool EndsValue(string argument, string spelling)
    {
        for (var at = argument.IndexOf(spelling, StringComparison.Ordinal); at >= 0; at = argument.IndexOf(spelling, at + 1, StringComparison.Ordinal))
        {
            var end = at + spelling.Length;
            var isBegun = at == 0 || argument[at - 1] is '=' or '"' or ':';
            if (isBegun && (end == argument.Length || argument[end] is '"' || (argument[end] == ',' && !argument.AsSpan(end).StartsWith(",,"))))
            {
                return true;
            }
        }
        return false;
    }

    /// <summary>The files below each disk's topmost one, by its node, topmost first.</summary>
    private static Dictionary<string, IReadOnlyList<string>> ReadChains(JsonElement devices)
    {
        var chains = new Dictionary<string, IReadOnlyList<string>>(StringComparer.Ordinal);
        foreach (var device in devices.Items())
        {
            if (device.Find("inserted") is not { } inserted || inserted.FindText("node-name") is not { } node)
            {
                continue;
            }
            var files = new List<string>();
            for (var image = inserted.Find("image")?.Find("backing-image"); image is { } lower; image = lower.Find("backing-image"))
            {
                files.Add(lower.Text("filename"));
            }
            chains[node] = files;
        }
        return chains;
    }

    /// <summary>The options that would have started QEMU with a disk; null when it has no id by which a guest could tell it.</summary>
    private static async Task<IReadOnlyList<string>?> DescribeAsync(QmpClient qmp, QemuDisk disk, CancellationToken cancellationToken)
    {
        const string named = "/machine/peripheral/";
        if (disk.DevicePath?.StartsWith(named, StringComparison.Ordinal) != true)
        {
            return null;
        }
        var id = disk.DevicePath[named.Length..].Split('/')[0];
        var device = new JsonObject { ["driver"] = await BlockInventory.FindPropertyAsync(qmp, named + id, "type", cancellationToken), ["id"] = id, ["drive"] = disk.Node };
        if (await BlockInventory.FindPropertyAsync(qmp, named + id, "parent_bus", cancellationToken) is { } bus)
        {
            device["bus"] = bus[(bus.LastIndexOf('/') + 1)..];
        }
        if (await BlockInventory.FindPropertyAsync(qmp, named + id, "serial", cancellationToken) is { Length: > 0 } serial)
        {
            device["serial"] = serial;
        }
        var node = new JsonObject { ["driver"] = disk.Summary.Format, ["node-name"] = disk.Node, ["file"] = new JsonObject { ["driver"] = "file", ["filename"] = disk.File } };
        return ["-blockdev", node.ToJsonString(), "-device", device.ToJsonString()];
    }
}
