using CsCheck;
using VirtBackup.Catalog.Retention;
using VirtBackup.Core;

namespace VirtBackup.Catalog.Tests;

public sealed class RetentionSimulatorTests
{
    private const long Hour = 3_600_000;
    private const long Day = 24 * Hour;

    private static readonly long Now = new DateTimeOffset(2031, 5, 4, 3, 0, 0, TimeSpan.Zero).ToUnixTimeMilliseconds();

    [Fact]
    public void Daily_points_under_a_daily_rule_go_one_a_day()
    {
        var simulation = RetentionSimulator.Run(new RetentionRules { Daily = 3 }, Daily(5), new SimulationAssumptions { NowMs = Now, IntervalMs = Day });
        Assert.Equal([Now + (3 * Day), Now + (2 * Day), Now + Day, Now, Now], simulation.Points.Select(static point => point.ExpiresMs!.Value));
        Assert.Equal(3, simulation.PointsAtEnd);
    }

    [Fact]
    public void Without_further_points_nothing_more_goes()
    {
        var simulation = RetentionSimulator.Run(new RetentionRules { Daily = 3 }, Daily(5), new SimulationAssumptions { NowMs = Now });
        Assert.Equal([null, null, null, Now, Now], simulation.Points.Select(static point => point.ExpiresMs));
        Assert.True(simulation.Settled);
    }

    [Fact]
    public void A_locked_point_goes_when_its_lock_ends_and_a_held_one_does_not_go()
    {
        var points = Daily(4);
        points[2] = points[2] with { LockedUntilMs = Now + (5 * Hour) + 1 };
        points[3] = points[3] with { IsHeld = true };
        var simulation = RetentionSimulator.Run(new RetentionRules { Last = 1 }, points, new SimulationAssumptions { NowMs = Now, IntervalMs = Day, EndMs = Now + (10 * Day) });
        Assert.Equal([Now + Day, Now, Now + (5 * Hour) + 1, null], simulation.Points.Select(static point => point.ExpiresMs));
        Assert.Equal((Now + (10 * Day), false), (simulation.EndMs, simulation.Settled));
    }

    [Theory]
    [InlineData(false, null)]
    [InlineData(true, 1)]
    public void The_last_verified_point_goes_only_when_a_further_one_is_verified(bool furtherAreVerified, int? days)
    {
        RetentionPoint[] points = [new(new Id16(1), Now, IsVerified: true)];
        var simulation = RetentionSimulator.Run(
            new RetentionRules { Last = 1 }, points, new SimulationAssumptions { NowMs = Now, IntervalMs = Day, FurtherAreVerified = furtherAreVerified, StepsMax = 400 });
        Assert.Equal(days is null ? null : Now + (days * Day), Assert.Single(simulation.Points).ExpiresMs);
    }

    [Fact]
    public void An_old_machine_begins_at_its_next_turn()
    {
        RetentionPoint[] points = [new(new Id16(1), Now - (10 * Day) - Hour)];
        var simulation = RetentionSimulator.Run(new RetentionRules { Last = 2 }, points, new SimulationAssumptions { NowMs = Now, IntervalMs = Day });
        Assert.Equal(Now - Hour + (2 * Day), Assert.Single(simulation.Points).ExpiresMs);
    }

    /// <summary>The simulator against a world that really lives through every hour.</summary>
    [Fact]
    public void Simulated_times_are_those_at_which_points_really_go() =>
        Gen.Select(Gen.Int[0, 3], Gen.Int[0, 5], Gen.Int[0, 5], Gen.Int[0, 3], Gen.Int[1, 30], Gen.Int[0, 100].Array[1, 12]).Sample((last, hourly, daily, weekly, interval, ages) =>
        {
            var rules = new RetentionRules { Last = last, Hourly = hourly, Daily = daily, Weekly = weekly };
            RetentionPoint[] points =
            [
                .. ages.Distinct().Select(age => new RetentionPoint(
                    new Id16((UInt128)age + 1), Now - (age * Hour), age % 7 == 0, LockedUntilMs: age % 5 == 0 ? Now + ((age - 20) * Hour) : 0)),
            ];
            const int hours = 300;
            var simulated = RetentionSimulator.Run(rules, points, new SimulationAssumptions { NowMs = Now, IntervalMs = interval * Hour, EndMs = Now + (hours * Hour) });
            var lived = Live(rules, points, interval, hours);
            return simulated.Points.All(point => point.ExpiresMs == (lived.TryGetValue(point.Verdict.Point.Id, out var at) ? at : null));
        }, iter: 500);

    private static Dictionary<Id16, long> Live(RetentionRules rules, RetentionPoint[] points, int intervalHours, int hours)
    {
        var alive = points.ToList();
        var gone = new Dictionary<Id16, long>();
        var next = points.Max(static point => point.TimeMs);
        for (var now = Now; now <= Now + (hours * Hour); now += Hour)
        {
            for (; next + (intervalHours * Hour) <= now; next += intervalHours * Hour)
            {
                if (next + (intervalHours * Hour) > Now)
                {
                    alive.Add(new RetentionPoint(new Id16((UInt128)next + (UInt128)(intervalHours * Hour)), next + (intervalHours * Hour)));
                }
            }
            foreach (var verdict in RetentionEvaluation.Run(rules, alive, now).Where(static verdict => verdict.Expires))
            {
                alive.Remove(verdict.Point);
                gone.TryAdd(verdict.Point.Id, now);
            }
        }
        return gone;
    }

    private static RetentionPoint[] Daily(int count) => [.. Enumerable.Range(0, count).Select(static day => new RetentionPoint(new Id16((UInt128)(100 - day)), Now - (day * Day)))];
}
