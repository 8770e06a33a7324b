using CsCheck;
using VirtBackup.Catalog.Retention;
using VirtBackup.Core;

namespace VirtBackup.Catalog.Tests;

public sealed class RetentionEvaluationTests
{
    private static readonly long Now = Ms("2031-05-04T03:02:01Z");

    /// <summary>From seconds to years apart, some of them ahead of the time.</summary>
    private static readonly Gen<RetentionPoint[]> Points =
        from count in Gen.Int[0, 60]
        from spacing in Gen.OneOf([.. new[] { 1_000L, 600_000, 3_600_000, 6 * 3_600_000L, 24 * 3_600_000L, 9 * 24 * 3_600_000L, 90 * 24 * 3_600_000L }.Select(static ms => Gen.Const(ms))])
        from points in Gen.Select(Gen.Long[-3, 80], Gen.Int[0, 20], Gen.Int[0, 12], Gen.Int[0, 12], Gen.Long[-40, 40]).Array[count]
        select points.Select((point, i) => new RetentionPoint(
            new Id16((UInt128)(i * 7919 % 101)), Now - (point.Item1 * spacing) - (point.Item2 * 1000), point.Item3 == 0, point.Item3 == 1, point.Item3 == 2,
            point.Item4 == 0 ? Now + (point.Item5 * 3_600_000) : 0)).DistinctBy(static point => point.Id).ToArray();

    private static readonly Gen<RetentionRules> Rules =
        from counts in Gen.Frequency((2, Gen.Const(0)), (3, Gen.Int[1, 12])).Array[7]
        select new RetentionRules { Last = counts[0], Hourly = counts[1], Daily = counts[2], Weekly = counts[3], Monthly = counts[4], Yearly = counts[5], WithinHours = counts[6] * counts[6] };

    [Fact]
    public void Verdicts_are_those_of_the_slow_way() => Gen.Select(Rules, Points).Sample((rules, points) =>
        Kept(rules, points).SetEquals(RetentionOracle.Kept(rules, points, Now)), iter: 20_000);

    [Fact]
    public void More_rules_never_let_more_points_go() => Gen.Select(Rules, Rules, Points).Sample((rules, more, points) =>
    {
        var both = new RetentionRules
        {
            Last = rules.Last + more.Last, Hourly = rules.Hourly + more.Hourly, Daily = rules.Daily + more.Daily, Weekly = rules.Weekly + more.Weekly,
            Monthly = rules.Monthly + more.Monthly, Yearly = rules.Yearly + more.Yearly, WithinHours = rules.WithinHours + more.WithinHours,
        };
        // No rules at all keep everything: the one step that goes the other way.
        return rules.IsEmpty || Kept(both, points).IsSupersetOf(Kept(rules, points));
    });

    [Fact]
    public void What_is_left_stays() => Gen.Select(Rules, Points).Sample((rules, points) =>
    {
        var kept = Kept(rules, points);
        return Kept(rules, [.. points.Where(point => kept.Contains(point.Id))]).SetEquals(kept);
    });

    [Fact]
    public void Points_go_in_any_order_and_may_stop_halfway() => Gen.Select(Rules, Points, Gen.Int[0, 60]).Sample((rules, points, some) =>
    {
        // A run that forgot only some of what expires changes nothing of what the next run keeps.
        var kept = Kept(rules, points);
        return Kept(rules, [.. points.Where((point, i) => kept.Contains(point.Id) || i >= some)]).SetEquals(kept);
    });

    [Fact]
    public void The_order_of_points_does_not_matter() => Gen.Select(Rules, Points).Sample((rules, points) =>
        Kept(rules, [.. points.Reverse()]).SetEquals(Kept(rules, points)));

    [Fact]
    public void Points_from_the_future_take_no_place_of_others() => Gen.Select(Rules, Points, Gen.Int[1, 40]).Sample((rules, points, count) =>
    {
        var future = Enumerable.Range(0, count).Select(static i => new RetentionPoint(new Id16((UInt128)(1000 + i)), Now + 1 + (i * 24 * 3_600_000L), IsVerified: true)).ToArray();
        return Kept(rules, [.. points, .. future]).SetEquals([.. Kept(rules, points), .. future.Select(static point => point.Id)]);
    });

    [Fact]
    public void Time_alone_ends_locks_and_nothing_else() => Gen.Select(Rules, Points, Gen.Long[0, 1_000_000_000_000]).Sample((rules, points, later) =>
    {
        RetentionPoint[] present = [.. points.Where(static point => point.TimeMs <= Now)];
        RetentionPoint[] unlocked = [.. present.Select(static point => point with { LockedUntilMs = 0 })];
        return Kept(rules, present, long.MaxValue).SetEquals(Kept(rules, unlocked, Now + later));
    });

    [Fact]
    public void No_rules_keep_everything() => Points.Sample(static points =>
        RetentionEvaluation.Run(RetentionRules.KeepEverything, points, Now).All(static verdict => !verdict.Expires));

    [Fact]
    public void The_last_verified_and_the_latest_point_stay_whatever_the_rules_say()
    {
        RetentionPoint[] points = [.. Enumerable.Range(0, 10).Select(static day => Point(day, DayMs(day), verified: day is 2 or 3))];
        var verdicts = RetentionEvaluation.Run(new RetentionRules { Last = 1 }, points, Now);
        Assert.Equal(["last 1 of 1, latest", "last verified"], verdicts.Where(static verdict => !verdict.Expires).Select(TextOf));
        Assert.Equal((UInt128)4, verdicts.Single(static verdict => TextOf(verdict) == "last verified").Point.Id.Value);
    }

    [Fact]
    public void Reasons_name_the_place_in_each_rule()
    {
        // Monday and the Sunday before: two days, two ISO weeks, one month.
        RetentionPoint[] points = [Point(1, "2029-12-30T23:59:59Z"), Point(2, "2029-12-31T00:00:00Z"), Point(3, "2029-12-31T12:00:00Z")];
        var verdicts = RetentionEvaluation.Run(new RetentionRules { Daily = 7, Weekly = 2, Monthly = 1 }, points, Now);
        Assert.Equal(["daily 1 of 7, weekly 1 of 2, monthly 1 of 1, latest", "", "daily 2 of 7, weekly 2 of 2"], verdicts.Select(TextOf));
    }

    [Theory]
    [InlineData("2030-12-29T12:00:00Z", "2030-12-30T00:00:00Z", true)] // Sunday, Monday
    [InlineData("2030-12-31T23:00:00Z", "2031-01-01T01:00:00Z", false)] // one ISO week across the year's end
    [InlineData("2028-12-31T23:59:59Z", "2029-01-01T00:00:00Z", true)]
    public void Weeks_are_those_of_iso_8601(string first, string second, bool apart)
    {
        RetentionPoint[] points = [Point(1, first), Point(2, second)];
        Assert.Equal(apart ? 2 : 1, Kept(new RetentionRules { Weekly = 5 }, points).Count);
    }

    [Fact]
    public void Rules_have_bounds_and_a_text()
    {
        Assert.Equal("last 3, daily 7, within 48 h", new RetentionRules { Last = 3, Daily = 7, WithinHours = 48 }.ToString());
        Assert.Equal("everything", RetentionRules.KeepEverything.ToString());
        new RetentionRules { Yearly = RetentionRules.CountMax, WithinHours = RetentionRules.WithinHoursMax }.Validate();
        Assert.Equal(FaultReason.InvalidArgument, Assert.Throws<FaultException>(() => new RetentionRules { Weekly = -1 }.Validate()).Reason);
        Assert.Equal(FaultReason.InvalidArgument, Assert.Throws<FaultException>(() => new RetentionRules { WithinHours = RetentionRules.WithinHoursMax + 1 }.Validate()).Reason);
    }

    private static HashSet<Id16> Kept(RetentionRules rules, RetentionPoint[] points, long? nowMs = null) =>
        [.. RetentionEvaluation.Run(rules, points, nowMs ?? Now).Where(static verdict => !verdict.Expires).Select(static verdict => verdict.Point.Id)];

    private static string TextOf(RetentionVerdict verdict) => string.Join(", ", verdict.Reasons);

    private static RetentionPoint Point(int number, string time) => new(new Id16((UInt128)number), Ms(time));

    private static RetentionPoint Point(int daysAgo, long timeMs, bool verified) => new(new Id16((UInt128)(daysAgo + 2)), timeMs, verified);

    private static long DayMs(int daysAgo) => Now - (daysAgo * 24 * 3_600_000L);

    private static long Ms(string time) => DateTimeOffset.Parse(time, System.Globalization.CultureInfo.InvariantCulture).ToUnixTimeMilliseconds();
}
