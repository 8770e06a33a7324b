using VirtBackup.Core;

namespace VirtBackup.Catalog.Estimates;

/// <summary>What the time of a restore depends on.</summary>
/// <param name="DataBytes">To be written.</param>
/// <param name="SampleSecondsPerByte">What a measurement of the path took just before; 0: there was none.</param>
/// <param name="Jobs">Restores and backups of the same agent side by side, this one included; at least 1.</param>
public readonly record struct RestoreConditions(long DataBytes, double SampleSecondsPerByte, int Jobs);

/// <summary>A restore that is over.</summary>
public readonly record struct PastRestore(RestoreConditions Conditions, double Seconds);

/// <summary>Half of such restores are over within the first time, nine of ten within the second.</summary>
/// <param name="JudgedBy">How many restores it was judged by.</param>
public readonly record struct TimeEstimate(double P50Seconds, double P90Seconds, int JudgedBy);

/// <summary>
/// T = (D + D0) / B: the fixed cost as bytes, and a rate that follows what a sample reached just before and how many jobs run
/// side by side. What history was off by, each restore judged by the others, gives the quantiles. ESTIMATES.md says why.
/// </summary>
public static class RestoreEstimator
{
    private const double LevelMax = 0.98;
    private const double LevelSpan = 0.1;
    private const double RecordPrior = 10;
    private const double FixedCostWeight = 0.05;
    private const double LeverageMax = 0.95;
    private static readonly double[] FixedCosts = [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4];

    /// <param name="now">Of the restore to be.</param>
    /// <param name="history">Restores on the same path, newest first.</param>
    /// <param name="record">Whether each estimate on the path held, newest first.</param>
    /// <param name="settings">By what it is judged.</param>
    public static TimeEstimate Estimate(RestoreConditions now, IReadOnlyList<PastRestore> history, IReadOnlyList<bool> record, EstimatorSettings settings)
    {
        ArgumentNullException.ThrowIfNull(history);
        ArgumentNullException.ThrowIfNull(record);
        ArgumentNullException.ThrowIfNull(settings);
        Check.That(now.DataBytes >= 0 && now.Jobs >= 1);
        var past = history.Where(static restore => restore.Seconds > 0).Take(settings.RestoresMax).ToArray();
        var typical = Typical(now, past, settings);
        var best = FixedCosts.Select(cost => Fit(past, typical, cost, settings)).MinBy(static fit => fit.Error)!;
        var middle = best.Weights.Of(Point.Of(now, typical)) + Math.Log(now.DataBytes + best.FixedBytes) + LogSample(now, typical);
        var misses = Completed(best.Misses, settings);
        var lower = Quantile(misses, 0.5);
        var upper = Math.Max(lower, Quantile(misses, CorrectedLevel(record, settings)));
        return new TimeEstimate(Math.Exp(middle + lower), Math.Exp(middle + upper), past.Length);
    }

    /// <summary>The level that makes up for what the last estimates were off by.</summary>
    private static double CorrectedLevel(IReadOnlyList<bool> record, EstimatorSettings settings)
    {
        var last = record.Take(settings.RecordMax).ToArray();
        var held = (last.Count(static within => within) + (settings.Level * RecordPrior)) / (last.Length + RecordPrior);
        return Math.Clamp(settings.Level + settings.Level - held, settings.Level - LevelSpan, Math.Max(settings.Level, LevelMax));
    }

    /// <summary>The mean logarithm of what samples took: slopes are about differences from it.</summary>
    private static double Typical(RestoreConditions now, PastRestore[] past, EstimatorSettings settings)
    {
        var samples = past.Select(static restore => restore.Conditions.SampleSecondsPerByte).Append(now.SampleSecondsPerByte).Where(static sample => sample > 0).ToArray();
        return samples.Length > 0 ? samples.Average(Math.Log) : -Math.Log(settings.UnknownRate);
    }

    /// <summary>Least squares on logarithms, with what is believed beforehand as so many restores more.</summary>
    private static Fitted Fit(PastRestore[] past, double typical, double fixedSeconds, EstimatorSettings settings)
    {
        var fixedBytes = fixedSeconds / Math.Exp(typical);
        var sums = new NormalEquations();
        sums.Believe(0, 0, settings.RateWeight);
        sums.Believe(1, settings.SampleSlope - 1, settings.SlopeWeight);
        sums.Believe(2, settings.NeighbourSlope, settings.SlopeWeight);
        var points = past.Select(restore =>
            (X: Point.Of(restore.Conditions, typical), Y: Math.Log(restore.Seconds) - Math.Log(restore.Conditions.DataBytes + fixedBytes) - LogSample(restore.Conditions, typical))).ToArray();
        foreach (var (x, y) in points)
        {
            sums.Add(x, y);
        }
        var (weights, inverse) = sums.Solve();
        // What it would have been off by had it not been among those it is judged by.
        var misses = points.Select(point => (point.Y - weights.Of(point.X)) / (1 - Math.Min(LeverageMax, inverse.LeverageOf(point.X)))).ToArray();
        var surprise = Math.Log(fixedSeconds / settings.FixedSeconds);
        return new Fitted(fixedBytes, weights, misses, misses.Sum(static miss => miss * miss) + (FixedCostWeight * surprise * surprise));
    }

    private static double LogSample(RestoreConditions conditions, double typical) => conditions.SampleSecondsPerByte > 0 ? Math.Log(conditions.SampleSecondsPerByte) : typical;

    /// <summary>Sorted, with made-up restores for those that are missing.</summary>
    private static double[] Completed(double[] misses, EstimatorSettings settings)
    {
        var missing = Math.Max(0, settings.RestoresMin - misses.Length);
        double[] all = [.. misses, .. Enumerable.Range(0, missing).Select(i => settings.PriorSpread * NormalQuantile((i + 0.5) / missing))];
        Array.Sort(all);
        return all;
    }

    /// <summary>The one that so many of all, the next included, do not exceed: conformal prediction's rank.</summary>
    private static double Quantile(double[] sorted, double level) => sorted[Math.Clamp((int)Math.Ceiling(level * (sorted.Length + 1)) - 1, 0, sorted.Length - 1)];

    /// <summary>Of the standard normal distribution, to three digits: bisection of its integral (Abramowitz and Stegun 26.2.17).</summary>
    private static double NormalQuantile(double share)
    {
        var (low, high) = (-6.0, 6.0);
        for (var i = 0; i < 40; i++)
        {
            var middle = (low + high) / 2;
            (low, high) = NormalShare(middle) < share ? (middle, high) : (low, middle);
        }
        return low;
    }

    private static double NormalShare(double x)
    {
        var t = 1 / (1 + (0.2316419 * Math.Abs(x)));
        var tail = Math.Exp(-x * x / 2) / Math.Sqrt(2 * Math.PI) * t * (0.319381530 + (t * (-0.356563782 + (t * (1.781477937 + (t * (-1.821255978 + (t * 1.330274429))))))));
        return x >= 0 ? 1 - tail : tail;
    }

    /// <summary>One; how much slower than typical the sample was; how many jobs ran: logarithms.</summary>
    private readonly record struct Point(double One, double Sample, double Jobs)
    {
        public static Point Of(RestoreConditions conditions, double typical) => new(1, LogSample(conditions, typical) - typical, Math.Log(conditions.Jobs));

        public double this[int i] => i switch { 0 => One, 1 => Sample, _ => Jobs };
    }

    private readonly record struct Weights(double Rate, double Sample, double Jobs)
    {
        public double Of(Point x) => (Rate * x.One) + (Sample * x.Sample) + (Jobs * x.Jobs);
    }

    private sealed record Fitted(double FixedBytes, Weights Weights, double[] Misses, double Error);

    private sealed class Inverse(double[,] matrix)
    {
        public double LeverageOf(Point x)
        {
            double sum = 0;
            for (var i = 0; i < 3; i++)
            {
                for (var j = 0; j < 3; j++)
                {
                    sum += x[i] * matrix[i, j] * x[j];
                }
            }
            return sum;
        }
    }

    /// <summary>Three unknowns.</summary>
    private sealed class NormalEquations
    {
        private readonly double[,] _left = new double[3, 3];
        private readonly double[] _right = new double[3];

        public void Believe(int unknown, double value, double weight)
        {
            _left[unknown, unknown] += weight;
            _right[unknown] += weight * value;
        }

        public void Add(Point x, double y)
        {
            for (var i = 0; i < 3; i++)
            {
                _right[i] += x[i] * y;
                for (var j = 0; j < 3; j++)
                {
                    _left[i, j] += x[i] * x[j];
                }
            }
        }

        /// <summary>By cofactors. What is believed beforehand keeps the determinant above zero.</summary>
        public (Weights Weights, Inverse Inverse) Solve()
        {
            var inverse = new double[3, 3];
            var determinant = (_left[0, 0] * Minor(0, 0)) - (_left[0, 1] * Minor(0, 1)) + (_left[0, 2] * Minor(0, 2));
            for (var i = 0; i < 3; i++)
            {
                for (var j = 0; j < 3; j++)
                {
                    inverse[j, i] = ((i + j) % 2 == 0 ? 1 : -1) * Minor(i, j) / determinant;
                }
            }
            double Row(int i) => (inverse[i, 0] * _right[0]) + (inverse[i, 1] * _right[1]) + (inverse[i, 2] * _right[2]);
            return (new Weights(Row(0), Row(1), Row(2)), new Inverse(inverse));
        }

        private double Minor(int row, int column)
        {
            var (top, bottom) = (row == 0 ? 1 : 0, row == 2 ? 1 : 2);
            var (left, right) = (column == 0 ? 1 : 0, column == 2 ? 1 : 2);
            return (_left[top, left] * _left[bottom, right]) - (_left[top, right] * _left[bottom, left]);
        }
    }
}
