using System.Text.Json;
using System.Text.Json.Nodes;
using VirtBackup.Hypervisors.Guests;

namespace VirtBackup.Hypervisors.Qemu;

/// <summary>A command of QEMU's monitor, however the monitor is reached.</summary>
internal delegate Task<JsonElement> MonitorCommand(string command, JsonObject? arguments, CancellationToken cancellationToken);

/// <summary>
/// QEMU's own account of the guest's writes and flushes (<c>query-blockstats</c>, <c>block-latency-histogram-set</c>), from some of its
/// devices. A histogram that another tool set is left as it is.
/// </summary>
internal sealed class WriteAccount
{
    private const string SetHistogram = "block-latency-histogram-set";
    private readonly IReadOnlySet<string> devices;

    private WriteAccount(IReadOnlySet<string> devices, bool hasHistogram)
    {
        this.devices = devices;
        HasHistogram = hasHistogram;
    }

    /// <summary>Whether <see cref="ReadAsync"/> tells how many operations took how long.</summary>
    public bool HasHistogram { get; }

    /// <summary>How many devices it counts.</summary>
    public int Devices => devices.Count;

    /// <param name="watched">Which devices count, by their path in QEMU's object tree.</param>
    public static async Task<WriteAccount> OpenAsync(MonitorCommand monitor, Func<string, bool> watched, CancellationToken cancellationToken)
    {
        var stats = (await monitor("query-blockstats", null, cancellationToken)).Items().Where(entry => PathOf(entry) is { Length: > 0 } path && watched(path)).ToList();
        var devices = stats.Select(PathOf).ToHashSet(StringComparer.Ordinal);
        var isFree = stats.TrueForAll(entry => IsFreeOrOurs(entry.Field("stats")));
        foreach (var device in isFree ? devices : [])
        {
            await monitor(SetHistogram, new JsonObject { ["id"] = device, ["boundaries-write"] = Boundaries(), ["boundaries-flush"] = Boundaries() }, cancellationToken);
        }
        return new WriteAccount(devices, isFree);
    }

    public async Task<GuestWrites> ReadAsync(MonitorCommand monitor, CancellationToken cancellationToken)
    {
        long operations = 0, total = 0;
        var bins = HasHistogram ? new long[GuestWrites.BoundariesNs.Count + 1] : [];
        foreach (var entry in (await monitor("query-blockstats", null, cancellationToken)).Items())
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

    /// <summary>Takes the histograms away. One that stays does no harm, and the next account takes it over.</summary>
    public async Task CloseAsync(MonitorCommand monitor)
    {
        foreach (var device in HasHistogram ? devices : (IEnumerable<string>)[])
        {
            await monitor(SetHistogram, new JsonObject { ["id"] = device }, CancellationToken.None);
        }
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
}
