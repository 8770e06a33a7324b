using System.Globalization;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.Comparison;

/// <summary>What is asked for.</summary>
/// <param name="Full">Times virtnbdbackup's time, and so on.</param>
/// <param name="Slack">Seconds more for whatever takes time.</param>
internal sealed record Bounds(double Full, double Incremental, double Restore, double Stored, double Freeze, double Slack)
{
    public static Bounds Claimed { get; } = new(1.0, 0.7, 0.7, 0.7, 1.0, 0);

    /// <summary>For a disk so small that what does not depend on its size is most of the time, and on a busy machine.</summary>
    public static Bounds Loose { get; } = new(5, 5, 5, 0.95, 3, 6);

    public const double QmpFreezeMsMax = 60;
}

/// <summary>All measurements, by what and of whom, and the verdict over their medians. Seconds and bytes.</summary>
internal sealed class Figures
{
    public const string Full = "full", Incremental = "incremental", Restore = "restore", Stored = "stored", Freeze = "freeze", QmpFreeze = "qmp-freeze", Fixed = "fixed-";
    private readonly Dictionary<(string What, string Tool), List<double>> _all = [];

    public void Add(string what, ITool tool, double value) => Add(what, tool.Name, value);

    public void Add(string what, string tool, double value)
    {
        if (!_all.TryGetValue((what, tool), out var list)) _all.Add((what, tool), list = []);
        list.Add(value);
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"  {tool,-14} {what,-18} {Text(what, value)}"));
    }

    public double MedianOf(string what, string tool)
    {
        var sorted = _all[(what, tool)].Order().ToList();
        return (sorted[(sorted.Count - 1) / 2] + sorted[sorted.Count / 2]) / 2;
    }

    public string Tell(ITool own, ITool peer) => string.Join(' ', _all.Keys.Select(static key => key.What).Distinct().Select(what => _all.ContainsKey((what, peer.Name))
        ? string.Create(CultureInfo.InvariantCulture, $"{what}={Text(what, MedianOf(what, own.Name))}:{Text(what, MedianOf(what, peer.Name))}({MedianOf(what, own.Name) / MedianOf(what, peer.Name):0.00}x)")
        : $"{what}={Text(what, MedianOf(what, own.Name))}"));

    /// <exception cref="RefutedException">Something takes more than it may.</exception>
    public void Require(Bounds bounds, ITool own, ITool peer)
    {
        var beyond = new List<string>();
        foreach (var (what, factor, slack) in new[]
        {
            (Full, bounds.Full, bounds.Slack), (Incremental, bounds.Incremental, bounds.Slack), (Restore, bounds.Restore, bounds.Slack), (Stored, bounds.Stored, 0),
            (Freeze, bounds.Freeze, bounds.Slack / 3),
        })
        {
            var (ours, theirs) = (MedianOf(what, own.Name), MedianOf(what, peer.Name));
            if (ours > (theirs * factor) + slack)
            {
                beyond.Add(string.Create(CultureInfo.InvariantCulture, $"{what}: {Text(what, ours)}, {own.Name} may take {factor:0.0#} of {peer.Name}'s {Text(what, theirs)}{(slack > 0 ? $" and {slack:0.#} s" : "")}"));
            }
        }
        if (_all.ContainsKey((QmpFreeze, own.Name)) && MedianOf(QmpFreeze, own.Name) is var qmp && qmp > Bounds.QmpFreezeMsMax / 1000)
        {
            beyond.Add(string.Create(CultureInfo.InvariantCulture, $"{QmpFreeze}: {Text(QmpFreeze, qmp)}, at most {Bounds.QmpFreezeMsMax:0} ms are allowed"));
        }
        if (beyond.Count > 0) throw new RefutedException(string.Join("; ", beyond));
    }

    private static string Text(string what, double value) => what switch
    {
        Stored => string.Create(CultureInfo.InvariantCulture, $"{value / (1 << 20):0}MiB"),
        Freeze or QmpFreeze => string.Create(CultureInfo.InvariantCulture, $"{value * 1000:0}ms"),
        _ => string.Create(CultureInfo.InvariantCulture, $"{value:0.00}s"),
    };
}
