namespace VirtBackup.Hypervisors.Guests;

/// <summary>
/// How a machine's writes and flushes fared as its hypervisor measured them, from their arrival to their end. All numbers only
/// grow while a meter is open: differences between two readings are what counts.
/// </summary>
/// <param name="Operations">Writes and flushes that have ended.</param>
/// <param name="TotalNs">Time that all of them took together, nanoseconds.</param>
/// <param name="Bins">
/// How many took how long, by <see cref="BoundariesNs"/>: one more than there are boundaries. Empty: the hypervisor does not tell.
/// </param>
public sealed record GuestWrites(long Operations, long TotalNs, IReadOnlyList<long> Bins)
{
    private const long FirstNs = 10_000;
    private const double Step = 1.25;

    /// <summary>From 10 µs to some 10 s, each a quarter above the one before.</summary>
    public static IReadOnlyList<long> BoundariesNs { get; } = [.. Enumerable.Range(0, 63).Select(static at => (long)(FirstNs * Math.Pow(Step, at)))];

    public static GuestWrites None { get; } = new(0, 0, []);

    internal const string TakenHistograms = "another tool has set QEMU's latency histograms";

    /// <summary>What came to be since an earlier reading of the same meter.</summary>
    public GuestWrites Since(GuestWrites earlier)
    {
        ArgumentNullException.ThrowIfNull(earlier);
        return new GuestWrites(
            Math.Max(0, Operations - earlier.Operations), Math.Max(0, TotalNs - earlier.TotalNs),
            Bins.Count != earlier.Bins.Count ? Bins : [.. Bins.Zip(earlier.Bins, static (now, then) => Math.Max(0, now - then))]);
    }

    /// <summary>Null: there was none.</summary>
    public TimeSpan? Mean => Operations == 0 ? null : TimeSpan.FromMicroseconds(TotalNs / (double)Operations / 1000);

    /// <summary>
    /// The time within which a share of them ended, exact to the width of its bin.
    /// </summary>
    /// <param name="share">Above 0, at most 1.</param>
    /// <returns>Null: it is not known.</returns>
    public TimeSpan? Quantile(double share)
    {
        var total = Bins.Sum();
        if (total == 0)
        {
            return null;
        }
        var wanted = share * total;
        double seen = 0;
        for (var bin = 0; bin < Bins.Count; bin++)
        {
            if (Bins[bin] > 0 && seen + Bins[bin] >= wanted)
            {
                var low = bin == 0 ? 0 : BoundariesNs[bin - 1];
                var high = bin < BoundariesNs.Count ? BoundariesNs[bin] : low * Step;
                return TimeSpan.FromMicroseconds((low + ((high - low) * Math.Clamp((wanted - seen) / Bins[bin], 0, 1))) / 1000);
            }
            seen += Bins[bin];
        }
        return null;
    }
}

/// <summary>Reads a machine's <see cref="GuestWrites"/>. One caller at a time.</summary>
public interface IGuestWriteMeter : IAsyncDisposable
{
    /// <summary>Why readings have no <see cref="GuestWrites.Bins"/>, for people; null: they have.</summary>
    string? Shortcoming => null;

    /// <exception cref="Core.FaultException">The machine cannot be asked now.</exception>
    ValueTask<GuestWrites> ReadAsync(CancellationToken cancellationToken);
}
