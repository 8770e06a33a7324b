using System.Globalization;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Views;

internal sealed record RulesView(uint Last, uint Hourly, uint Daily, uint Weekly, uint Monthly, uint Yearly, uint WithinHours)
{
    public static RulesView Of(RetentionRules? rules)
    {
        rules ??= new RetentionRules();
        return new(rules.KeepLast, rules.KeepHourly, rules.KeepDaily, rules.KeepWeekly, rules.KeepMonthly, rules.KeepYearly, rules.KeepWithinHours);
    }

    /// <summary>For people: "last 3, daily 7"; "everything".</summary>
    public string Text
    {
        get
        {
            var parts = new[] { ("last", Last), ("hourly", Hourly), ("daily", Daily), ("weekly", Weekly), ("monthly", Monthly), ("yearly", Yearly) }
                .Where(static rule => rule.Item2 > 0).Select(static rule => string.Create(CultureInfo.InvariantCulture, $"{rule.Item1} {rule.Item2}"));
            var text = string.Join(", ", WithinHours > 0 ? parts.Append(string.Create(CultureInfo.InvariantCulture, $"within {WithinHours} h")) : parts);
            return text.Length == 0 ? "everything" : text;
        }
    }
}

internal sealed record RuleSetView(string Name, RulesView Rules, bool IsDefault, uint VirtualMachines, DateTimeOffset? ChangeTime)
{
    public static RuleSetView Of(RuleSet set) => new(set.Name, RulesView.Of(set.Rules), set.IsDefault, set.VirtualMachines, WireNames.Of(set.ChangeTime));
}

/// <summary>What governs a machine; no <see cref="RuleSet"/>: everything is kept.</summary>
internal sealed record MachineRetentionView(string? RuleSet, bool IsDefault, RulesView Rules)
{
    public static MachineRetentionView Of(MachineRetention? retention) =>
        new(WireNames.TextOrNull(retention?.RuleSet ?? ""), retention?.IsDefault ?? false, RulesView.Of(retention?.Rules));

    /// <summary>For people.</summary>
    public string Text => RuleSet is null ? "none: everything is kept" : $"{RuleSet}{(IsDefault ? " (default)" : "")}: {Rules.Text}";
}

internal sealed record GovernedView(string Vm, MachineRetentionView Retention);

internal sealed record HoldView(string HoldId, string Reason, string PlacedBy, bool BySystem, DateTimeOffset? PlaceTime)
{
    public static HoldView Of(Hold hold) => new(hold.HoldId, hold.Reason, hold.PlacedBy, hold.BySystem, WireNames.Of(hold.PlaceTime));
}

/// <summary>What keeps a point, and when it goes if points are made as before; <see cref="ExpireTime"/> is null when that is not foreseen.</summary>
internal sealed record PointRetentionView(
    string? RuleSet, IReadOnlyList<string> KeptBy, bool Verified, IReadOnlyList<HoldView> Holds, DateTimeOffset? LockTime, DateTimeOffset? ExpireTime, DateTimeOffset? SimulatedUntil)
{
    public static PointRetentionView? Of(PointRetention? retention) => retention is null ? null : new(
        WireNames.TextOrNull(retention.RuleSet), [.. retention.KeptBy], retention.Verified, [.. retention.Holds.Select(HoldView.Of)],
        WireNames.Of(retention.LockTime), WireNames.Of(retention.ExpireTime), WireNames.Of(retention.SimulatedUntil));
}

internal sealed record SimulationView(
    string Vm, string? RuleSet, RulesView Rules, uint IntervalMinutes, DateTimeOffset? Now, DateTimeOffset? SimulatedUntil, bool Settled, uint PointsAtEnd,
    IReadOnlyList<PointView> RecoveryPoints)
{
    public static SimulationView Of(SimulateRetentionResponse response) => new(
        response.VmName, WireNames.TextOrNull(response.RuleSet), RulesView.Of(response.Rules), response.IntervalMinutes, WireNames.Of(response.Now),
        WireNames.Of(response.SimulatedUntil), response.Settled, response.PointsAtEnd, [.. response.RecoveryPoints.Select(PointView.Of)]);
}

internal sealed record ExpiredPointView(string PointId, string Vm, DateTimeOffset? CreateTime, string Reason)
{
    public static ExpiredPointView Of(ExpiredPoint point) => new(point.PointId, point.VmName, WireNames.Of(point.CreateTime), point.Reason);
}

internal sealed record RetentionResultView(
    ulong PointsKept, ulong ExpiredTotal, IReadOnlyList<ExpiredPointView> Expired, ulong FailedTotal, IReadOnlyList<ExpiredPointView> Failed)
{
    public static RetentionResultView Of(RetentionResult result) => new(
        result.PointsKept, result.ExpiredTotal, [.. result.Expired.Select(ExpiredPointView.Of)], result.FailedTotal, [.. result.Failed.Select(ExpiredPointView.Of)]);
}
