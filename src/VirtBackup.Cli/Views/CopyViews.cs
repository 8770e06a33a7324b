using System.Globalization;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Views;

/// <param name="Problem">Why it is not open, or why the newest run failed; null: neither.</param>
/// <param name="CompleteTime">When everything was there last that should be; null: never yet.</param>
/// <param name="PackBytes">Null while it is not open.</param>
internal sealed record CopyStoreView(
    string Name, string Location, string Kind, bool OffSite, ulong? BytesPerSecondMax, DateTimeOffset? CreateTime, bool Open, string? Problem, bool Running, string? JobId,
    DateTimeOffset? CompleteTime, ulong Points, ulong PointsMissing, ulong PointsOnlyThere, ulong PointsKept, ulong? PackBytes, ulong DamagesOpen)
{
    public static CopyStoreView Of(CopyStore store) => new(
        store.Name, store.Location, store.Kind, store.OffSite, store.BytesPerSecondMax == 0 ? null : store.BytesPerSecondMax, WireNames.Of(store.CreateTime), store.Open,
        WireNames.TextOrNull(store.Problem), store.Running, WireNames.TextOrNull(store.JobId), WireNames.Of(store.CompleteTime), store.Points, store.PointsMissing,
        store.PointsOnlyThere, store.PointsKept, store.Open ? store.PackBytes : null, store.DamagesOpen);
}

/// <param name="RuleSet">By which copy stores keep points longer than the repository; null: they do not.</param>
internal sealed record CopyPolicyView(
    string Name, bool AllVms, IReadOnlyList<CopyMachineView> Vms, uint Copies, uint Media, uint OffSite, IReadOnlyList<string> At, uint LockDays, string? LockedAt, uint WithinMinutes,
    string? RuleSet)
{
    public static CopyPolicyView Of(CopyPolicy policy) => new(
        policy.Name, policy.AllVms, [.. policy.Vms.Select(static vm => new CopyMachineView(vm.VmId, vm.VmName))], policy.Copies, policy.Media, policy.OffSite, [.. policy.At],
        policy.LockDays, WireNames.TextOrNull(policy.LockedAt), policy.WithinMinutes, WireNames.TextOrNull(policy.RuleSet));

    /// <summary>For people.</summary>
    public string What => AllVms ? "all backed up here" : string.Join(", ", Vms.Select(static vm => vm.Vm));

    public string Where => At.Count == 0 ? "every copy store" : string.Join(", ", At);

    public string Locked => LockDays == 0 ? "-" : string.Create(CultureInfo.InvariantCulture, $"{LockDays} days at {LockedAt ?? "every copy store of the policy"}");

    public string Within => WithinMinutes % 1440 == 0 ? Text(WithinMinutes / 1440, "d") : WithinMinutes % 60 == 0 ? Text(WithinMinutes / 60, "h") : Text(WithinMinutes, "m");

    private static string Text(uint count, string unit) => string.Create(CultureInfo.InvariantCulture, $"{count}{unit}");
}

internal sealed record CopyMachineView(string VmId, string Vm);

/// <param name="LockedUntilTime">Null: not locked.</param>
internal sealed record CopyPlaceView(string Name, string? Kind, bool OffSite, bool Peer, DateTimeOffset? LockedUntilTime)
{
    public static CopyPlaceView Of(CopyPlace place) => new(place.Name, WireNames.TextOrNull(place.Kind), place.OffSite, place.Peer, WireNames.Of(place.LockedUntilTime));
}

/// <param name="State">met, pending, overdue or no_point.</param>
/// <param name="SinceTime">By when the oldest overdue point should have been everywhere; null: none is overdue.</param>
/// <param name="Reasons">What is not so, of the point that waits longest.</param>
internal sealed record CopyStatusView(
    string Policy, string VmId, string Vm, string State, DateTimeOffset? SinceTime, IReadOnlyList<string> Reasons, string? PointId, DateTimeOffset? PointTime,
    IReadOnlyList<CopyPlaceView> Places, uint Copies, uint CopiesWanted, uint Media, uint MediaWanted, uint OffSite, uint OffSiteWanted, DateTimeOffset? LockedUntilTime, bool LockWanted,
    ulong Points, ulong PointsPending, ulong PointsOverdue)
{
    public static CopyStatusView Of(CopyStatus status) => new(
        status.Policy, status.VmId, status.VmName, NameOf(status.State), WireNames.Of(status.SinceTime), [.. status.Reasons], WireNames.TextOrNull(status.PointId),
        WireNames.Of(status.PointTime), [.. status.Places.Select(CopyPlaceView.Of)], status.Copies, status.CopiesWanted, status.Media, status.MediaWanted, status.OffSite,
        status.OffSiteWanted, WireNames.Of(status.LockedUntilTime), status.LockWanted, status.Points, status.PointsPending, status.PointsOverdue);

    public bool IsOverdue => State == Overdue;

    public bool IsMet => State == Met;

    private const string Met = "met";
    private const string Overdue = "overdue";

    private static string NameOf(CopyState state) => state switch
    {
        CopyState.Met => Met,
        CopyState.Pending => "pending",
        CopyState.Overdue => Overdue,
        CopyState.NoPoint => "no_point",
        _ => "unknown",
    };
}

internal sealed record CopyResultView(
    string Store, ulong PointsCopied, ulong PointsForgotten, ulong PointsLocked, ulong PointsRefused, ulong BytesCopied, IReadOnlyList<string> Problems)
{
    public static CopyResultView Of(CopyResult result) => new(
        result.Store, result.PointsCopied, result.PointsForgotten, result.PointsLocked, result.PointsRefused, result.BytesCopied, [.. result.Problems]);
}
