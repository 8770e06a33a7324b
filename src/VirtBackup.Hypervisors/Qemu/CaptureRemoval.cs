using System.Text.Json.Nodes;
using VirtBackup.Core;
using VirtBackup.Hypervisors.Guests;

namespace VirtBackup.Hypervisors.Qemu;

/// <summary>
/// Takes out of a QEMU process what a capture put into it: exports, snapshot nodes, NBD server, filters, fleeces. Works
/// from what is there, so it may be repeated, and cleans up after a run that broke off at any step. The guest runs on.
/// </summary>
internal static class CaptureRemoval
{
    private static readonly TimeSpan ExportTimeout = TimeSpan.FromSeconds(30);

    public static async Task RemoveAsync(QmpClient qmp, string fleeceFolder, Id16 machine, CancellationToken cancellationToken)
    {
        var folders = FindFolders(fleeceFolder, machine);
        foreach (var export in (await qmp.ExecuteAsync("query-block-exports", null, cancellationToken)).Items())
        {
            var id = export.Text("id");
            if (CaptureNames.IsOurs(id))
            {
                await qmp.ExecuteAsync("block-export-del", new JsonObject { ["id"] = id, ["mode"] = "hard" }, cancellationToken);
                await qmp.WaitForEventAsync("BLOCK_EXPORT_DELETED", data => data.FindText("id") == id, ExportTimeout, cancellationToken);
            }
        }
        foreach (var folder in folders)
        {
            // The server is ours only if it listens on our socket: after a restart of QEMU another tool may run its own.
            if (await JsonLineSocket.IsListeningAsync(Path.Combine(folder, CaptureFolder.SocketName), cancellationToken))
            {
                await qmp.ExecuteAsync("nbd-server-stop", null, cancellationToken);
            }
        }
        var nodes = (await BlockInventory.ReadNodesAsync(qmp, cancellationToken)).Keys.Where(CaptureNames.IsOurs).ToList();
        if (nodes.Count > 0)
        {
            await DeleteNodesAsync(qmp, nodes, "-snap", cancellationToken);
            await DetachFiltersAsync(qmp, cancellationToken);
            await DeleteNodesAsync(qmp, nodes, "-cbw", cancellationToken);
            await DeleteNodesAsync(qmp, nodes, "-fl", cancellationToken);
            await DeleteNodesAsync(qmp, nodes, "-lim", cancellationToken);
        }
        foreach (var folder in folders)
        {
            CaptureFolder.Delete(folder);
        }
    }

    public static IReadOnlyList<string> FindFolders(string fleeceFolder, Id16 machine) =>
        Directory.Exists(fleeceFolder) ? Directory.GetDirectories(fleeceFolder, CaptureNames.FolderPattern(machine)) : [];

    /// <summary>
    /// Deletes the folders of captures whose QEMU process has ended: nobody serves them any more. One that still holds a
    /// mark is left, for whoever reaches the machine again.
    /// </summary>
    public static async Task DeleteOrphansAsync(string fleeceFolder, Id16 machine, CancellationToken cancellationToken)
    {
        foreach (var folder in FindFolders(fleeceFolder, machine))
        {
            if (!new FreezeMarks(folder).Any && !await JsonLineSocket.IsListeningAsync(Path.Combine(folder, CaptureFolder.SocketName), cancellationToken))
            {
                CaptureFolder.Delete(folder);
            }
        }
    }

    private static async Task DetachFiltersAsync(QmpClient qmp, CancellationToken cancellationToken)
    {
        Dictionary<string, string>? below = null;
        foreach (var device in (await qmp.ExecuteAsync("query-block", null, cancellationToken)).Items())
        {
            if (device.Find("inserted")?.FindText("node-name") is { } node && CaptureNames.IsOurs(node))
            {
                below ??= await BlockInventory.ReadFilteredAsync(qmp, cancellationToken);
                var qdev = device.Text("qdev");
                await qmp.ExecuteAsync("qom-set", new JsonObject
                {
                    ["path"] = qdev.StartsWith('/') ? qdev : $"/machine/peripheral/{qdev}", ["property"] = "drive", ["value"] = below[node],
                }, cancellationToken);
            }
        }
    }

    private static async Task DeleteNodesAsync(QmpClient qmp, List<string> nodes, string suffix, CancellationToken cancellationToken)
    {
        foreach (var node in nodes.Where(node => node.EndsWith(suffix, StringComparison.Ordinal)))
        {
            await qmp.ExecuteAsync("blockdev-del", new JsonObject { ["node-name"] = node }, cancellationToken);
        }
    }
}
