using VirtBackup.Catalog.Estimates;

namespace VirtBackup.Catalog.Tests;

public sealed class RestoreEstimatorTests
{
    private const long GiB = 1L << 30;
    private static readonly EstimatorSettings Settings = EstimatorSettings.Default;

    private static RestoreConditions Conditions(long bytes, double rate = 100e6, int jobs = 1) => new(bytes, 1 / rate, jobs);

    /// <summary>100 MB/s with a sample that reaches half of it, and half a second of fixed cost.</summary>
    private static List<PastRestore> History(int count) =>
        [.. Enumerable.Range(0, count).Select(i => (GiB >> (i % 6)) is var bytes ? new PastRestore(Conditions(bytes, 50e6), 0.5 + (bytes / 100e6)) : default)];

    [Fact]
    public void Without_history_the_sample_tells_and_the_interval_is_wide()
    {
        var estimate = RestoreEstimator.Estimate(Conditions(GiB), [], [], Settings);
        Assert.InRange(estimate.P50Seconds, GiB / 100e6, 1.3 * GiB / 100e6);
        Assert.InRange(estimate.P90Seconds / estimate.P50Seconds, 2, 3.5);
        Assert.Equal(0, estimate.JudgedBy);
        var unmeasured = RestoreEstimator.Estimate(new RestoreConditions(GiB, 0, 1), [], [], Settings);
        Assert.InRange(unmeasured.P50Seconds, GiB / Settings.UnknownRate, 1.3 * GiB / Settings.UnknownRate);
    }

    [Fact]
    public void History_that_always_was_the_same_makes_the_interval_narrow_and_corrects_the_sample()
    {
        var estimate = RestoreEstimator.Estimate(Conditions(GiB / 2, 50e6), History(60), [.. Enumerable.Repeat(true, 60)], Settings);
        Assert.InRange(estimate.P50Seconds, 0.95 * (0.5 + (GiB / 2 / 100e6)), 1.05 * (0.5 + (GiB / 2 / 100e6)));
        Assert.InRange(estimate.P90Seconds / estimate.P50Seconds, 1, 1.1);
    }

    [Fact]
    public void A_restore_of_nothing_takes_the_fixed_cost()
    {
        var estimate = RestoreEstimator.Estimate(Conditions(0, 50e6), History(60), [], Settings);
        Assert.InRange(estimate.P50Seconds, 0.2, 1.0);
    }

    [Fact]
    public void A_slow_sample_and_neighbours_make_it_longer()
    {
        var history = History(10);
        var usual = RestoreEstimator.Estimate(Conditions(GiB, 50e6), history, [], Settings);
        Assert.True(RestoreEstimator.Estimate(Conditions(GiB, 10e6), history, [], Settings).P50Seconds > 2 * usual.P50Seconds);
        Assert.True(RestoreEstimator.Estimate(Conditions(GiB, 50e6, jobs: 4), history, [], Settings).P50Seconds > 1.5 * usual.P50Seconds);
    }

    [Fact]
    public void Estimates_that_were_too_short_make_the_next_ones_longer()
    {
        var random = new Random(5);
        var history = History(60).ConvertAll(restore => restore with { Seconds = restore.Seconds * Math.Exp((random.NextDouble() - 0.5) / 2) });
        double P90(int held) => RestoreEstimator.Estimate(Conditions(GiB, 50e6), history, [.. Enumerable.Range(0, 40).Select(i => i < held)], Settings).P90Seconds;
        Assert.True(P90(30) > P90(36));
        Assert.True(P90(36) > P90(40));
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public void Estimates_are_finite_and_ordered_whatever_history_says(int seed)
    {
        var random = new Random(seed);
        for (var i = 0; i < 200; i++)
        {
            RestoreConditions Any() => new(random.NextInt64(1L << random.Next(1, 50)), random.Next(3) == 0 ? 0 : Math.Exp((random.NextDouble() * 40) - 30), random.Next(1, 300));
            var history = Enumerable.Range(0, random.Next(80)).Select(_ => new PastRestore(Any(), Math.Exp((random.NextDouble() * 30) - 15))).ToList();
            var estimate = RestoreEstimator.Estimate(Any(), history, [.. history.Select(_ => random.Next(2) == 0)], Settings);
            Assert.True(double.IsFinite(estimate.P50Seconds) && double.IsFinite(estimate.P90Seconds), $"{estimate}");
            Assert.True(estimate.P50Seconds > 0 && estimate.P90Seconds >= estimate.P50Seconds, $"{estimate}");
        }
    }
}
