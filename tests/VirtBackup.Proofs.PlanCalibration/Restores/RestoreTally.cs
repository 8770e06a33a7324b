using System.Globalization;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.PlanCalibration.Restores;

/// <summary>What was said of each restore, and what it took.</summary>
internal sealed record ScoredRestore(string Path, LoadKind Load, int Parallel, double P50, double P90, double Actual)
{
    public bool Held => Actual <= P90;
}

/// <summary>How often the P90 held.</summary>
internal sealed class RestoreTally
{
    private const int RestoresExact = 100;
    private const double LowestShare = 0.85;
    private const double HighestShare = 0.95;

    /// <summary>With few restores a claim is given up only when so little chance is left that it is true.</summary>
    private const double ChanceMin = 0.001;
    private readonly List<ScoredRestore> _restores = [];

    public IReadOnlyList<ScoredRestore> Restores => _restores;

    public void Add(ScoredRestore restore) => _restores.Add(restore);

    /// <summary>Of at least 100 restores the share itself has to lie between the two; of fewer it must only not be too unlikely.</summary>
    /// <exception cref="RefutedException">It does not hold as often as it says.</exception>
    public void Require()
    {
        var (count, held) = (_restores.Count, _restores.Count(static restore => restore.Held));
        if (count >= RestoresExact)
        {
            var share = (double)held / count;
            if (share is < LowestShare or > HighestShare) throw new RefutedException($"The P90 held in {share:P1} of the restores; it must in 85 to 95 %. {this}");
            return;
        }
        var (few, many) = (AtMost(held, count, LowestShare), 1 - AtMost(held - 1, count, HighestShare));
        if (few < ChanceMin || many < ChanceMin)
        {
            throw new RefutedException(string.Create(CultureInfo.InvariantCulture, $"The P90 held in {held} of {count} restores: if it held in 85 to 95 % of all, the chance of that were {Math.Min(few, many):0.00000}. {this}"));
        }
    }

    public override string ToString()
    {
        if (_restores.Count == 0) return "";
        var kinds = string.Join(", ", _restores.GroupBy(static restore => restore.Load).OrderBy(static group => group.Key)
            .Select(static group => $"{group.Key} {group.Count(static restore => restore.Held)}/{group.Count()}"));
        var (errors, widths) = (_restores.Select(static restore => Math.Abs((restore.Actual / restore.P50) - 1)).Order().ToList(), _restores.Select(static restore => restore.P90 / restore.P50).Order().ToList());
        return string.Create(CultureInfo.InvariantCulture,
            $"{_restores.Count(static restore => restore.Held)} of {_restores.Count} restores within P90 ({kinds}; side by side {_restores.Count(static restore => restore.Parallel > 1 && restore.Held)}/{_restores.Count(static restore => restore.Parallel > 1)}), {_restores.Count(static restore => restore.Actual <= restore.P50)} within P50, median error {errors[errors.Count / 2]:P0}, P90 {widths[widths.Count / 2]:0.00} times P50, {_restores.Min(static restore => restore.Actual):0.00} to {_restores.Max(static restore => restore.Actual):0.00} s");
    }

    /// <summary>The chance of no more than so many of all, each as likely as the share.</summary>
    private static double AtMost(int held, int count, double share)
    {
        double sum = 0;
        var term = Math.Pow(1 - share, count);
        for (var i = 0; i <= held; i++)
        {
            sum += term;
            term *= (double)(count - i) / (i + 1) * share / (1 - share);
        }
        return Math.Min(1, sum);
    }
}
