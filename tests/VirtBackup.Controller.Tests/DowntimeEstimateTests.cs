using VirtBackup.Catalog.Migrations;
using VirtBackup.Controller.Migrations;
using VirtBackup.Core;

namespace VirtBackup.Controller.Tests;

/// <summary>For how long a machine is said to stand still.</summary>
public sealed class DowntimeEstimateTests
{
    private const long Increment = 50 << 20;

    [Fact]
    public void Without_a_history_it_is_a_guess_that_grows_with_the_increment()
    {
        var (small, large) = (DowntimeEstimates.Make([], 0, 1e8), DowntimeEstimates.Make([], 1_000_000_000, 1e8));
        Assert.Equal(0u, small.JudgedBy);
        Assert.Equal(10, large.P50Seconds - small.P50Seconds, 0.01);
        Assert.True(small.P90Seconds > 2 * small.P50Seconds);
        // A path whose rate nobody knows.
        Assert.Equal(small.P50Seconds, DowntimeEstimates.Make([], 1_000_000_000, 0).P50Seconds);
    }

    [Fact]
    public void What_copying_does_not_explain_is_learned_and_every_prediction_is_scored()
    {
        var rate = 10.0 * (1 << 20);
        // Six seconds beside five for the increment, once ten.
        MigrationRow[] history = [.. Enumerable.Range(0, 10).Select(i => Past(i == 3 ? 15 : 11, predicted: i % 2 == 0 ? 12 : 5))];
        var made = DowntimeEstimates.Make(history, 2 * Increment, rate);
        Assert.Equal(16, made.P50Seconds, 0.01);
        Assert.InRange(made.P90Seconds, 16.5, 23);
        Assert.Equal((10u, 10u), (made.JudgedBy, made.Record.Scored));
        Assert.Equal((5u, 5u), (made.Record.WithinP50, made.Record.WithinP90));
        Assert.True(made.Record.MedianError > 0);
        Assert.True(DowntimeEstimates.Make(history[..1], 0, rate).P90Seconds > DowntimeEstimates.Make([history[0], history[1]], 0, rate).P90Seconds);
    }

    private static MigrationRow Past(double downtime, double predicted) => new()
    {
        MigrationId = Id16.Create(SystemEntropy.Instance), VmId = Id16.Create(SystemEntropy.Instance), VmName = "m", SourceAgent = "a", TargetAgent = "b", CreatedMs = 1,
        LastBytes = Increment, DowntimeSeconds = downtime, PredictedP50Seconds = predicted, PredictedP90Seconds = predicted + 1,
    };
}
