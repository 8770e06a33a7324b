using System.Globalization;
using VirtBackup.Catalog.Estimates;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.PlanCalibration;

/// <summary>
/// The estimator itself against restores of a made-up host whose true times are known to nobody but chance: a rate that
/// drifts, loads that come and go, neighbours, samples that are off, and now and then a restore that takes twice as long.
/// So many restores that a wrong share is no accident.
/// </summary>
internal sealed class ReplayedRestores(ProofOptions options)
{
    private const int Purpose = 1000;
    private const int RunsOfShort = 5;
    private const int RunsOfLong = 20;
    private const int RestoresOfRun = 400;
    private const double LowestShare = 0.87;
    private const double HighestShare = 0.93;

    /// <summary>Where the load is heaviest; an estimator that does not see the load is right there in some half.</summary>
    private const double LowestShareUnderLoad = 0.65;

    /// <summary>P90 over P50, in the median; who does not see the load can only cover it with an interval as wide as all loads.</summary>
    private const double WidthMax = 1.8;
    private static readonly double[] Slowness = [1, 1.8, 3.5];

    /// <exception cref="RefutedException">The quantiles are not what they are called.</exception>
    public string Run()
    {
        var (count, held, heavy, heavyHeld) = (0, 0, 0, 0);
        var widths = new List<double>();
        for (var run = 0; run < (options.Short ? RunsOfShort : RunsOfLong); run++)
        {
            var history = new List<PastRestore>();
            var record = new List<bool>();
            foreach (var (conditions, seconds, isHeavy) in Restores(options.RandomOf(run, Purpose)))
            {
                var estimate = RestoreEstimator.Estimate(conditions, history, record, EstimatorSettings.Default);
                var within = seconds <= estimate.P90Seconds;
                (count, held) = (count + 1, held + (within ? 1 : 0));
                if (isHeavy) (heavy, heavyHeld) = (heavy + 1, heavyHeld + (within ? 1 : 0));
                widths.Add(estimate.P90Seconds / estimate.P50Seconds);
                history.Insert(0, new PastRestore(conditions, seconds));
                record.Insert(0, within);
            }
        }
        var (share, underLoad, width) = ((double)held / count, (double)heavyHeld / heavy, widths.Order().ElementAt(widths.Count / 2));
        var told = string.Create(CultureInfo.InvariantCulture,
            $"{count} replayed restores: {share:P1} within P90, {underLoad:P1} of {heavy} under the heaviest load, P90 {width:0.00} times P50");
        if (share is < LowestShare or > HighestShare) throw new RefutedException($"The P90 of replayed restores does not hold as often as it says. {told}.");
        return underLoad >= LowestShareUnderLoad && width <= WidthMax ? told : throw new RefutedException($"Estimates do not follow the load. {told}.");
    }

    private static IEnumerable<(RestoreConditions Conditions, double Seconds, bool IsHeavy)> Restores(Random random)
    {
        const double fixedSeconds = 0.35;
        const double secondsPerByte = 1 / 90e6;
        var (drift, load) = (0.0, 0);
        for (var i = 0; i < RestoresOfRun; i++)
        {
            drift = (0.95 * drift) + Noise(random, 0.05);
            if (random.NextDouble() < 0.15) load = Math.Max(0, random.Next(5) - 2);
            var jobs = Math.Max(1, random.Next(6) - 1);
            var bytes = Math.Exp(Math.Log(2e6) + (random.NextDouble() * Math.Log(200)));
            var slow = Slowness[load] * Math.Exp(drift);
            var sample = secondsPerByte * 1.6 * slow * Math.Pow(jobs, 0.3) * Math.Exp(Noise(random, 0.2));
            var seconds = (fixedSeconds + (bytes * secondsPerByte)) * slow * Math.Pow(jobs, 0.7) * Math.Exp(Noise(random, 0.12));
            if (random.NextDouble() < 0.05) seconds *= 1.2 + random.NextDouble();
            yield return (new RestoreConditions((long)bytes, sample, jobs), seconds, load == Slowness.Length - 1 && jobs > 1);
        }
    }

    /// <summary>Normally distributed: Box and Muller's method.</summary>
    private static double Noise(Random random, double deviation) =>
        deviation * Math.Sqrt(-2 * Math.Log(1 - random.NextDouble())) * Math.Cos(2 * Math.PI * random.NextDouble());
}
