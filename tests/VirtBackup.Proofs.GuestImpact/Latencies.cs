using System.Globalization;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.GuestImpact;

/// <summary>What a span of time brought.</summary>
/// <param name="WritesPerSecond">Of the guest, as its host counted them.</param>
/// <param name="HostMs">A write with its flush, as the host measured it, milliseconds.</param>
/// <param name="GuestMs">The same as the guest's kernel measured it.</param>
internal sealed record Reading(double WritesPerSecond, double HostMs, double GuestMs)
{
    public override string ToString() => string.Create(CultureInfo.InvariantCulture, $"{WritesPerSecond:0}/s, {HostMs:0.00} ms at the host, {GuestMs:0.00} ms in the guest");
}

/// <summary>The readings of all trials, by what went on meanwhile, and the verdict over their medians.</summary>
internal sealed class Latencies
{
    public const string Idle = "idle", Healthy = "healthy", Slow = "slow", Dead = "dead", PeerIdle = "peer-idle", Peer = "virtnbdbackup";
    /// <summary>A guest whose load went on writes as often as before, but for what the cut and chance take.</summary>
    private const double RateShareMin = 0.5;
    private readonly Dictionary<string, List<Reading>> _readings = [];

    public string Figures => string.Join(' ', _readings.Select(pair => string.Create(
        CultureInfo.InvariantCulture, $"{pair.Key}={MedianOf(pair.Key):0.00}ms(guest:{MedianOf(pair.Key, static reading => reading.GuestMs):0.00})")));

    /// <exception cref="RefutedException">The guest's load stood still.</exception>
    public void Add(string what, Reading reading)
    {
        Console.WriteLine($"  {what,-14} {reading}");
        if (!_readings.TryGetValue(what, out var list))
        {
            _readings.Add(what, list = []);
        }
        list.Add(reading);
        var idle = what is Peer or PeerIdle ? PeerIdle : Idle;
        if (what != idle && reading.WritesPerSecond < RateShareMin * _readings[idle][^1].WritesPerSecond)
        {
            throw new RefutedException($"the guest's load stood still while '{what}': {reading}; before: {_readings[idle][^1]}");
        }
    }

    /// <exception cref="RefutedException">The guest's writes became slower than they may.</exception>
    public void Require(double factor)
    {
        var idle = MedianOf(Idle);
        foreach (var what in new[] { Healthy, Slow, Dead }.Where(_readings.ContainsKey))
        {
            var share = MedianOf(what) / idle;
            if (share > factor)
            {
                throw new RefutedException(string.Create(CultureInfo.InvariantCulture, $"'{what}': a write takes {share:0.0} times as long as without a backup, more than {factor:0.#}: {Figures}"));
            }
            // Two guests, each beside its own idle time.
            if (factor <= 2 && _readings.ContainsKey(Peer) && share > MedianOf(Peer) / MedianOf(PeerIdle))
            {
                throw new RefutedException($"'{what}': writes suffer more than by virtnbdbackup: {Figures}");
            }
        }
    }

    private double MedianOf(string what) => MedianOf(what, static reading => reading.HostMs);

    private double MedianOf(string what, Func<Reading, double> of)
    {
        var sorted = _readings[what].Select(of).Order().ToList();
        return (sorted[(sorted.Count - 1) / 2] + sorted[sorted.Count / 2]) / 2;
    }
}
