using System.Text.Json.Nodes;
using VirtBackup.Core;
using VirtBackup.Nbd;

namespace VirtBackup.Hypervisors.Qemu;

/// <summary>A dirty bitmap, which limits what a copy-before-write filter copies.</summary>
internal readonly record struct BitmapPlace(string Node, string Name);

/// <summary>
/// A bitmap of what else should stay readable, beside what changed. QEMU has no command that sets bits: the bitmap lies on a
/// node of the disk's length that stores nothing, and zeros are written to that node.
/// </summary>
internal sealed class CopyLimit(QmpClient qmp, string node)
{
    private const string BitmapName = "limit";

    private static readonly TimeSpan ExportTimeout = TimeSpan.FromSeconds(30);

    public BitmapPlace Place { get; } = new(node, BitmapName);

    /// <summary>Makes the bitmap; before the guest is touched.</summary>
    /// <param name="socket">Of QEMU's NBD server, which runs.</param>
    /// <param name="ranges">Inside the disk.</param>
    public async Task MakeAsync(long diskBytes, string socket, IReadOnlyList<ByteRange> ranges, TimeProvider time, CancellationToken cancellationToken)
    {
        await qmp.ExecuteAsync("blockdev-add", new JsonObject { ["driver"] = "null-co", ["node-name"] = node, ["size"] = diskBytes, ["read-zeroes"] = true }, cancellationToken);
        await qmp.ExecuteAsync("block-dirty-bitmap-add", new JsonObject
        {
            ["node"] = node, ["name"] = BitmapName, ["granularity"] = BitmapSettlement.Granularity, ["persistent"] = false,
        }, cancellationToken);
        await qmp.ExecuteAsync("block-export-add", new JsonObject
        {
            ["type"] = "nbd", ["id"] = node, ["name"] = node, ["node-name"] = node, ["writable"] = true,
        }, cancellationToken);
        await using (var client = await NbdClient.ConnectAsync(NbdEndpoint.Unix(socket), new NbdClientOptions { ExportName = node, TimeProvider = time }, cancellationToken))
        {
            foreach (var range in ranges)
            {
                await client.WriteZeroesAsync(range.Offset, Math.Min(range.End, diskBytes) - range.Offset, cancellationToken);
            }
        }
        await qmp.ExecuteAsync("block-export-del", new JsonObject { ["id"] = node, ["mode"] = "hard" }, cancellationToken);
        await qmp.WaitForEventAsync("BLOCK_EXPORT_DELETED", data => data.FindText("id") == node, ExportTimeout, cancellationToken);
    }

    /// <summary>Adds what changed; while the guest stands still, because it still records.</summary>
    public QmpCommand Add(BitmapPlace changed) => new("block-dirty-bitmap-merge", new JsonObject
    {
        ["node"] = node, ["target"] = BitmapName, ["bitmaps"] = new JsonArray(new JsonObject { ["node"] = changed.Node, ["name"] = changed.Name }),
    });
}
