using System.Text.Json;
using System.Text.Json.Nodes;
using VirtBackup.Core;
using VirtBackup.Hypervisors.Guests;

namespace VirtBackup.Hypervisors.Qemu;

/// <summary>
/// QEMU's own account of the guest's writes and flushes (<c>query-blockstats</c>, <c>block-latency-histogram-set</c>). The monitor is
/// opened for each reading, so that it stays free for others. A histogram that another tool set is left as it is.
/// </summary>
internal sealed class QemuWriteMeter : IGuestWriteMeter
{
    private readonly QemuDriverContext context;
    private readonly QemuMachine machine;
    private readonly HashSet<string> devices;
    private readonly bool hasHistogram;

    private QemuWriteMeter(QemuDriverContext context, QemuMachine machine, HashSet<string> devices, bool hasHistogram)
    {
        this.context = context;
        this.machine = machine;
        this.devices = devices;
        this.hasHistogram = hasHistogram;
    }

    public static async Task<QemuWriteMeter> OpenAsync(QemuDriverContext context, QemuMachine machine, CancellationToken cancellationToken)
    {
        await using var qmp = await context.OpenAsync(machine, cancellationToken);
        var devices = new HashSet<string>(StringComparer.Ordinal);
        foreach (var disk in await BlockInventory.ReadAsync(qmp, machine.Uuid, new HashSet<string>(), cancellationToken))
        {
            if (disk is { Captured: true, DevicePath: { } path })
            {
                devices.Add(path);
            }
        }
        var stats = (await qmp.ExecuteAsync("query-blockstats", null, cancellationToken)).Items().Where(entry => devices.Contains(PathOf(entry))).ToList();
        var isFree = stats.TrueForAll(entry => IsFreeOrOurs(entry.Field("stats")));
        foreach (var device in isFree ? devices : [])
        {
            await qmp.ExecuteAsync("block-latency-histogram-set", new JsonObject
            {
                ["id"] = device, ["boundaries-write"] = Boundaries(), ["boundaries-flush"] = Boundaries(),
            }, cancellationToken);
        }
        return new QemuWriteMeter(context, machine, devices, isFree);
    }

    public async ValueTask<GuestWrites> ReadAsync(CancellationToken cancellationToken)
    {
        await using var qmp = await context.OpenAsync(machine, cancellationToken);
        long operations = 0, total = 0;
        var bins = hasHistogram ? new long[GuestWrites.BoundariesNs.Count + 1] : [];
        foreach (var entry in (await qmp.ExecuteAsync("query-blockstats", null, cancellationToken)).Items())
        {
            if (!devices.Contains(PathOf(entry)))
            {
                continue;
            }
            var stats = entry.Field("stats");
            operations += stats.Number("wr_operations") + stats.Number("flush_operations");
            total += stats.Number("wr_total_time_ns") + stats.Number("flush_total_time_ns");
            Add(stats.Find("wr_latency_histogram"), bins);
            Add(stats.Find("flush_latency_histogram"), bins);
        }
        return new GuestWrites(operations, total, bins);
    }

    private static void Add(JsonElement? histogram, long[] bins)
    {
        if (histogram is not { } told || bins.Length == 0)
        {
            return;
        }
        var at = 0;
        foreach (var bin in told.Items("bins"))
        {
            if (at == bins.Length || bin.ValueKind != JsonValueKind.Number || !bin.TryGetInt64(out var count))
            {
                return; // somebody has set other boundaries meanwhile
            }
            bins[at++] += count;
        }
    }

    private static bool IsFreeOrOurs(JsonElement stats) =>
        (stats.Find("wr_latency_histogram"), stats.Find("rd_latency_histogram"), stats.Find("flush_latency_histogram")) switch
        {
            (null, null, null) => true,
            ({ } writes, null, { } flushes) => IsOurs(writes) && IsOurs(flushes), // of a run that was killed
            _ => false,
        };

    private static bool IsOurs(JsonElement histogram) =>
        histogram.Items("boundaries").Select(static boundary => boundary.TryGetInt64(out var value) ? value : 0).SequenceEqual(GuestWrites.BoundariesNs);

    private static string PathOf(JsonElement entry)
    {
        var qdev = entry.FindText("qdev");
        return qdev is null or "" ? "" : qdev[0] == '/' ? qdev : $"/machine/peripheral/{qdev}";
    }

    private static JsonArray Boundaries() => [.. GuestWrites.BoundariesNs.Select(static boundary => (JsonNode)boundary)];

    /// <summary>Takes the histograms away. One that stays does no harm, and the next meter takes it over.</summary>
    public async ValueTask DisposeAsync()
    {
        if (!hasHistogram)
        {
            return;
        }
        try
        {
            await using var qmp = await context.OpenAsync(machine, CancellationToken.None);
            foreach (var device in devices)
            {
                await qmp.ExecuteAsync("block-latency-histogram-set", new JsonObject { ["id"] = device }, CancellationToken.None);
            }
        }
        catch (FaultException)
        {
            // The machine has ended, or its monitor is in use.
        }
    }
}
