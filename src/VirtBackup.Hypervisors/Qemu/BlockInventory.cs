using System.Text.Json;
using System.Text.Json.Nodes;
using VirtBackup.Core;

namespace VirtBackup.Hypervisors.Qemu;

/// <summary>A dirty bitmap of ours.</summary>
/// <param name="Count">Dirty bytes, in multiples of the granularity.</param>
internal sealed record TrackingBitmap(TrackingName Name, bool Recording, bool Inconsistent, long Count);

/// <summary>A disk of a running QEMU, with the names to reach it by.</summary>
/// <param name="Node">The disk's own block node, below a filter that a broken-off run left.</param>
/// <param name="Filter">The leftover filter of ours that the device is attached to, or null.</param>
/// <param name="DevicePath">The QOM path of the object whose <c>drive</c> property holds the node; null without a device.</param>
/// <param name="KeepsBitmaps">The image can store bitmaps (qcow2 version 3); otherwise they end with the process.</param>
/// <param name="Refusal">Why the whole machine cannot be captured because of this disk, or null.</param>
internal sealed record QemuDisk(
    DiskSummary Summary, string Node, string? Filter, string? DevicePath, string DeviceType, string File, bool KeepsBitmaps,
    IReadOnlyList<TrackingBitmap> Bitmaps, string? Refusal)
{
    public bool Captured => Summary.SkipReason is null;
}

/// <summary>Finds the disks of a machine over QMP (query-block, query-named-block-nodes).</summary>
internal static class BlockInventory
{
    private static readonly HashSet<string> Protocols = ["file", "host_device", "nbd", "rbd", "iscsi", "nvme", "nfs", "ssh", "http", "https", "gluster"];

    public static async Task<IReadOnlyList<QemuDisk>> ReadAsync(
        QmpClient qmp, Id16 machine, IReadOnlySet<string> excluded, CancellationToken cancellationToken)
    {
        var devices = await qmp.ExecuteAsync("query-block", null, cancellationToken);
        var nodes = await ReadNodesAsync(qmp, cancellationToken);
        var below = nodes.Keys.Any(CaptureNames.IsOurs) ? await ReadFilteredAsync(qmp, cancellationToken) : [];
        var disks = new List<QemuDisk>();
        foreach (var device in devices.Items())
        {
            if (device.Find("inserted") is not { } inserted)
            {
                continue; // an empty drive
            }
            var top = inserted.Text("node-name");
            var ours = CaptureNames.IsOurs(top);
            var name = ours ? below.GetValueOrDefault(top) : top;
            if (name is null || !nodes.TryGetValue(name, out var node))
            {
                throw FaultException.Malformed($"QEMU at {qmp.SocketPath} names the block node '{name ?? top}' for a disk, but does not list it.");
            }
            disks.Add(await DescribeAsync(qmp, machine, device, node, ours ? top : null, excluded, cancellationToken));
        }
        return disks;
    }

    /// <summary>All named block nodes.</summary>
    public static async Task<Dictionary<string, JsonElement>> ReadNodesAsync(QmpClient qmp, CancellationToken cancellationToken)
    {
        var reply = await qmp.ExecuteAsync("query-named-block-nodes", new JsonObject { ["flat"] = true }, cancellationToken);
        var nodes = new Dictionary<string, JsonElement>(StringComparer.Ordinal);
        foreach (var node in reply.Items())
        {
            nodes[node.Text("node-name")] = node;
        }
        return nodes;
    }

    /// <summary>The node below each filter of ours.</summary>
    public static async Task<Dictionary<string, string>> ReadFilteredAsync(QmpClient qmp, CancellationToken cancellationToken)
    {
        var graph = await qmp.ExecuteAsync("x-debug-query-block-graph", null, cancellationToken);
        var names = new Dictionary<long, string>();
        foreach (var node in graph.Items("nodes"))
        {
            names[node.Number("id")] = node.Text("name");
        }
        var below = new Dictionary<string, string>(StringComparer.Ordinal);
        foreach (var edge in graph.Items("edges"))
        {
            if (edge.Text("name") == "file" && names.TryGetValue(edge.Number("parent"), out var parent)
                && CaptureNames.IsOurs(parent) && names.TryGetValue(edge.Number("child"), out var child))
            {
                below[parent] = child;
            }
        }
        return below;
    }

    private static async Task<QemuDisk> DescribeAsync(
        QmpClient qmp, Id16 machine, JsonElement device, JsonElement node, string? filter, IReadOnlySet<string> excluded, CancellationToken cancellationToken)
    {
        var qdev = device.FindText("qdev");
        var path = qdev is null or "" ? null : qdev[0] == '/' ? qdev : $"/machine/peripheral/{qdev}";
        var nodeName = node.Text("node-name");
        var name = NameOf(path, device.Text("device"), nodeName);
        var driver = node.Text("drv");
        var type = path is null ? "none" : await FindPropertyAsync(qmp, path, "type", cancellationToken) ?? "unknown";
        var skip = path is null ? "it is not attached to a device"
            : node.Flag("ro") ? "it is read-only"
            : device.Flag("removable") ? "it is a removable medium"
            : path.StartsWith("/machine/system.flash", StringComparison.Ordinal) ? "it is the firmware's flash memory"
            : type is "scsi-block" or "scsi-generic" ? "the guest talks to the device directly (SCSI passthrough)"
            : excluded.Contains(name) ? "it is excluded"
            : null;
        var image = node.Field("image");
        var summary = new DiskSummary(CaptureNames.DiskId(machine, name), name, image.Number("virtual-size"),
            Protocols.Contains(driver) ? "raw" : driver, skip);
        var keeps = driver == "qcow2" && image.Find("format-specific")?.Find("data")?.FindText("compat") is { } compat && compat != "0.10";
        var refusal = skip is null && await HasIoThreadAsync(qmp, path!, cancellationToken)
            ? $"Disk {name} uses an I/O thread. With this QEMU, a backup client that disconnects could end the whole machine; remove the iothread property of the device."
            : null;
        return new QemuDisk(summary, nodeName, filter, path, type, node.Text("file"), keeps, ReadBitmaps(node), refusal);
    }

    private static List<TrackingBitmap> ReadBitmaps(JsonElement node)
    {
        var bitmaps = new List<TrackingBitmap>();
        if (node.Find("dirty-bitmaps") is { } list)
        {
            foreach (var bitmap in list.Items())
            {
                if (bitmap.FindText("name") is { } text && TrackingName.TryParse(text, out var name))
                {
                    bitmaps.Add(new TrackingBitmap(name, bitmap.Flag("recording"), bitmap.Flag("inconsistent"), bitmap.Number("count")));
                }
            }
        }
        return bitmaps;
    }

    // The id that somebody gave the device or the drive outlives restarts; automatic node names (#block…) do not.
    private static string NameOf(string? path, string drive, string node)
    {
        const string named = "/machine/peripheral/";
        if (path?.StartsWith(named, StringComparison.Ordinal) == true)
        {
            return path[named.Length..].Split('/')[0];
        }
        return drive.Length > 0 ? drive : node.StartsWith('#') && path is not null ? path : node;
    }

    // virtio-blk holds the property itself; a SCSI disk's controller does.
    private static async Task<bool> HasIoThreadAsync(QmpClient qmp, string path, CancellationToken cancellationToken)
    {
        const string backend = "/virtio-backend";
        if (path.EndsWith(backend, StringComparison.Ordinal))
        {
            return await FindPropertyAsync(qmp, path[..^backend.Length], "iothread", cancellationToken) is { Length: > 0 };
        }
        var bus = await FindPropertyAsync(qmp, path, "parent_bus", cancellationToken);
        var cut = bus?.IndexOf(backend, StringComparison.Ordinal) ?? -1;
        return cut > 0 && await FindPropertyAsync(qmp, bus![..cut], "iothread", cancellationToken) is { Length: > 0 };
    }

    /// <summary>A property of an object, if it has it and it is text.</summary>
    internal static async Task<string?> FindPropertyAsync(QmpClient qmp, string path, string property, CancellationToken cancellationToken)
    {
        try
        {
            var value = await qmp.ExecuteAsync("qom-get", new JsonObject { ["path"] = path, ["property"] = property }, cancellationToken);
            return value.ValueKind == JsonValueKind.String ? JsonFields.AsText(value, property) : null;
        }
        catch (FaultException fault) when (fault.Reason == FaultReason.FailedPrecondition)
        {
            return null; // this device has no such property
        }
    }
}
