using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Views;

internal sealed record PointStreamView(string StreamId, string Name, string Kind, ulong LengthBytes, string? Format, ulong ReadBytes, string? ReadReason)
{
    public static PointStreamView Of(PointStream stream) => new(
        stream.StreamId, stream.Name, stream.Kind, stream.LengthBytes, WireNames.TextOrNull(stream.Format), stream.ReadBytes,
        WireNames.TextOrNull(stream.ReadReason));
}

/// <summary>The running state in a recovery point.</summary>
internal sealed record PointStateView(ulong MemoryBytes, ulong StoredBytes, ulong PausedMs)
{
    public static PointStateView? Of(PointState? state) => state is null ? null : new(state.MemoryBytes, state.StoredBytes, state.PausedMs);
}

/// <summary>Where a recovery point was made that came from another site.</summary>
/// <param name="Peer">The peer that it came from; null: not known any more.</param>
/// <param name="Sealed">There are no keys for it here: it can be verified and replicated, not restored.</param>
internal sealed record PointOriginView(string RepositoryId, string? Peer, bool Sealed)
{
    public static PointOriginView? Of(PointOrigin? origin) => origin is null ? null : new(origin.RepositoryId, WireNames.TextOrNull(origin.Peer), origin.Sealed);

    /// <summary>For people.</summary>
    public string Text => (Peer ?? Output.Units.ShortId(RepositoryId)) + (Sealed ? " (sealed)" : "");
}

/// <summary>A recovery point. <see cref="Streams"/> and <see cref="DamagedRanges"/> are empty in lists; <see cref="Retention"/> is null for forgotten points and in results of jobs; <see cref="Origin"/> is null when it was made here.</summary>
internal sealed record PointView(
    string PointId, string VmId, string Vm, DateTimeOffset? CreateTime, ulong Sequence, string Consistency, string? ConsistencyDetail, ulong? FrozenMs, ulong LogicalBytes,
    ulong ReadBytes, ulong StoredBytes, string? BasePointId, string? HypervisorKind, string? Agent, bool Forgotten, IReadOnlyList<PointStreamView> Streams, PointRetentionView? Retention,
    bool Damaged, IReadOnlyList<DamagedRangeView> DamagedRanges, ImpactView? Impact, PointStateView? State, PointOriginView? Origin)
{
    public static PointView Of(RecoveryPoint point) => new(
        point.PointId, point.VmId, point.VmName, WireNames.Of(point.CreateTime), point.Sequence, WireNames.Of(point.Consistency),
        WireNames.TextOrNull(point.ConsistencyDetail), point.FrozenMs == 0 ? null : point.FrozenMs, point.LogicalBytes, point.ReadBytes, point.StoredBytes, WireNames.TextOrNull(point.BasePointId),
        WireNames.TextOrNull(point.HypervisorKind), WireNames.TextOrNull(point.Agent), point.Forgotten, [.. point.Streams.Select(PointStreamView.Of)],
        PointRetentionView.Of(point.Retention), point.Damaged, [.. point.DamagedRanges.Select(DamagedRangeView.Of)], ImpactView.Of(point.Impact),
        PointStateView.Of(point.State), PointOriginView.Of(point.Origin));
}
