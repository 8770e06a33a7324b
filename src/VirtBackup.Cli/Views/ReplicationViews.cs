using System.Globalization;
using VirtBackup.Cli.Output;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Views;

/// <param name="BytesPerSecondMax">Null: no limit then.</param>
/// <param name="Days">1: Monday to 7: Sunday; empty: every day.</param>
internal sealed record RateWindowView(uint StartMinute, uint EndMinute, IReadOnlyList<uint> Days, ulong? BytesPerSecondMax)
{
    public static RateWindowView Of(RateWindow window) =>
        new(window.StartMinute, window.EndMinute, [.. window.Days], window.BytesPerSecondMax == 0 ? null : window.BytesPerSecondMax);

    /// <summary>As it is written on the command line.</summary>
    public string Text => Commands.Replications.RateWindows.Format(this);
}

internal sealed record ReplicationRuleView(
    string Peer, IReadOnlyList<string> Vms, uint EveryMinutes, bool Continuous, bool Paused, uint Streams, ulong? BytesPerSecondMax, IReadOnlyList<RateWindowView> Windows,
    string? RuleSet, uint LockDays)
{
    public static ReplicationRuleView Of(ReplicationRule rule) => new(
        rule.Peer, [.. rule.Vms], rule.EveryMinutes, rule.EveryMinutes == 0, rule.Paused, rule.Streams, rule.BytesPerSecondMax == 0 ? null : rule.BytesPerSecondMax,
        [.. rule.Windows.Select(RateWindowView.Of)], WireNames.TextOrNull(rule.RuleSet), rule.LockDays);

    /// <summary>For people.</summary>
    public string When => (Continuous ? "continuously" : $"every {Interval}") + (Paused ? " (paused)" : "");

    public string What => Vms.Count == 0 ? "all it may read" : string.Join(", ", Vms);

    public string Rate => Windows.Count == 0 ? Limit(BytesPerSecondMax) : $"{Limit(BytesPerSecondMax)}; {string.Join("; ", Windows.Select(static window => window.Text))}";

    private string Interval => EveryMinutes % 1440 == 0 ? Text(EveryMinutes / 1440, "d") : EveryMinutes % 60 == 0 ? Text(EveryMinutes / 60, "h") : Text(EveryMinutes, "m");

    private static string Text(uint count, string unit) => string.Create(CultureInfo.InvariantCulture, $"{count}{unit}");

    private static string Limit(ulong? rate) => rate is { } bytes ? Units.Rate(bytes) : "no limit";
}

/// <param name="NewestSourceTime">Of the newest point there; null: there is none any more.</param>
/// <param name="NewestHereTime">Null: there is none here.</param>
/// <param name="LagSeconds">Age of the newest point that is not here; null: none is missing.</param>
/// <param name="ListTime">When the source was asked last.</param>
internal sealed record ReplicatedMachineView(
    string VmId, string Vm, DateTimeOffset? NewestSourceTime, DateTimeOffset? NewestHereTime, ulong PointsMissing, double? LagSeconds, DateTimeOffset? ListTime)
{
    public static ReplicatedMachineView Of(ReplicatedMachine machine) => new(
        machine.VmId, machine.VmName, WireNames.Of(machine.NewestSourceTime), WireNames.Of(machine.NewestHereTime), machine.PointsMissing,
        machine.PointsMissing == 0 ? null : machine.LagMs / 1000.0, WireNames.Of(machine.ListTime));
}

internal sealed record ReplicationStatusView(
    ReplicationRuleView Rule, bool Running, string? JobId, DateTimeOffset? LastSuccessTime, DateTimeOffset? NextTime, string? Problem,
    IReadOnlyList<ReplicatedMachineView> Machines, uint MachinesTotal, ulong BytesPerSecond)
{
    public static ReplicationStatusView Of(ReplicationStatus status) => new(
        ReplicationRuleView.Of(status.Rule), status.Running, WireNames.TextOrNull(status.JobId), WireNames.Of(status.LastSuccessTime), WireNames.Of(status.NextTime),
        WireNames.TextOrNull(status.Problem), [.. status.Machines.Select(ReplicatedMachineView.Of)], Math.Max(status.MachinesTotal, (uint)status.Machines.Count), status.BytesPerSecond);
}

internal sealed record ReplicatedPointView(string PointId, string Vm, DateTimeOffset? CreateTime, ulong BytesReceived)
{
    public static ReplicatedPointView Of(ReplicatedPoint point) => new(point.PointId, point.VmName, WireNames.Of(point.CreateTime), point.BytesReceived);
}

internal sealed record ReplicationResultView(
    string Peer, ulong PointsReceived, ulong PointsPresent, ulong PointsRefused, ulong NodesReceived, ulong ChunksReceived, ulong BytesReceived,
    IReadOnlyList<ReplicatedPointView> Received, IReadOnlyList<string> Problems)
{
    public static ReplicationResultView Of(ReplicationResult result) => new(
        result.Peer, result.PointsReceived, result.PointsPresent, result.PointsRefused, result.NodesReceived, result.ChunksReceived, result.BytesReceived,
        [.. result.Received.Select(ReplicatedPointView.Of)], [.. result.Problems]);

    /// <summary>Whether everything that was to come is here.</summary>
    public bool IsWhole => PointsRefused == 0 && Problems.Count == 0;
}
