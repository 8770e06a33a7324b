using System.Globalization;
using VirtBackup.Catalog.Retention;
using VirtBackup.Core;

namespace VirtBackup.Catalog.Tests;

/// <summary>The rules once more, written for reading: calendars and grouping instead of arithmetic, and no care for speed.</summary>
internal static class RetentionOracle
{
    public static HashSet<Id16> Kept(RetentionRules rules, IReadOnlyList<RetentionPoint> points, long nowMs)
    {
        var kept = points.Where(point => point.IsHeld || point.IsInUse || point.LockedUntilMs > nowMs || point.TimeMs > nowMs).Select(static point => point.Id).ToHashSet();
        var present = points.Where(point => point.TimeMs <= nowMs).OrderByDescending(static point => (point.TimeMs, point.Id)).ToList();
        if (present.Count == 0)
        {
            return kept;
        }
        if (rules == RetentionRules.KeepEverything)
        {
            return [.. points.Select(static point => point.Id)];
        }
        kept.Add(present[0].Id);
        kept.UnionWith(present.Where(static point => point.IsVerified).Take(1).Select(static point => point.Id));
        kept.UnionWith(present.Take(rules.Last).Select(static point => point.Id));
        kept.UnionWith(present.Where(point => present[0].TimeMs - point.TimeMs < TimeSpan.FromHours(rules.WithinHours).TotalMilliseconds).Select(static point => point.Id));
        kept.UnionWith(NewestOfEach(present, rules.Hourly, static time => time.ToString("yyyy-MM-dd HH", CultureInfo.InvariantCulture)));
        kept.UnionWith(NewestOfEach(present, rules.Daily, static time => time.ToString("yyyy-MM-dd", CultureInfo.InvariantCulture)));
        kept.UnionWith(NewestOfEach(present, rules.Weekly, static time => $"{ISOWeek.GetYear(time):0000}-W{ISOWeek.GetWeekOfYear(time):00}"));
        kept.UnionWith(NewestOfEach(present, rules.Monthly, static time => time.ToString("yyyy-MM", CultureInfo.InvariantCulture)));
        kept.UnionWith(NewestOfEach(present, rules.Yearly, static time => time.ToString("yyyy", CultureInfo.InvariantCulture)));
        return kept;
    }

    private static IEnumerable<Id16> NewestOfEach(List<RetentionPoint> newestFirst, int count, Func<DateTime, string> bucketOf) =>
        newestFirst.GroupBy(point => bucketOf(DateTimeOffset.FromUnixTimeMilliseconds(point.TimeMs).UtcDateTime), StringComparer.Ordinal)
            .OrderByDescending(static bucket => bucket.Key, StringComparer.Ordinal).Take(count)
            .Select(static bucket => bucket.MaxBy(static point => (point.TimeMs, point.Id)).Id);
}
