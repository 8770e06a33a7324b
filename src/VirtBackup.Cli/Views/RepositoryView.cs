using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Views;

/// <summary>A repository. What only the controller, or only a look into the folder can tell is null on the other way.</summary>
internal sealed record RepositoryView(
    string RepositoryId, string Location, DateTimeOffset? CreateTime, string? Algorithms, ulong RecoveryPoints, ulong? ForgottenPoints, ulong Packs, ulong? Chunks,
    ulong StoredBytes, ulong? FreeBytes, ulong Generation, ProofView? Proof = null,
    CollectionStateView? Collection = null, StoreTrafficView? Traffic = null, ProviderLocksView? ProviderLocks = null)
{
    public static RepositoryView Of(GetStatusResponse status) => new(
        status.RepositoryId, status.RepositoryLocation, null, null, status.RecoveryPoints, null, status.Packs, status.Chunks, status.StoredBytes,
        status.FreeBytesKnown ? status.FreeBytes : null, status.Generation, ProofView.Of(status.Proof),
        CollectionStateView.Of(status.Collection), StoreTrafficView.Of(status.StoreTraffic), ProviderLocksView.Of(status.ProviderLocks));
}

/// <summary>Whether space is being freed. Problems are null where there are none.</summary>
internal sealed record CollectionStateView(DateTimeOffset? FinishTime, string? Problem, DateTimeOffset? AuditTime, string? AuditProblem)
{
    public static CollectionStateView? Of(RepositoryCollection? collection) => collection is null ? null : new(
        WireNames.Of(collection.FinishTime), NullIfEmpty(collection.Problem), WireNames.Of(collection.AuditTime), NullIfEmpty(collection.AuditProblem));

    private static string? NullIfEmpty(string text) => text.Length == 0 ? null : text;
}

/// <summary>How far the store's provider enforces retention locks. The problem is null where there is none.</summary>
internal sealed record ProviderLocksView(ulong PointsLocked, ulong PointsEnforced, ulong ObjectsRetained, ulong ObjectsWaiting, string? Problem)
{
    public static ProviderLocksView? Of(ProviderLocks? locks) => locks is null ? null : new(
        locks.PointsLocked, locks.PointsEnforced, locks.ObjectsRetained, locks.ObjectsWaiting, locks.Problem.Length == 0 ? null : locks.Problem);
}

/// <summary>What a rebuild of the index found.</summary>
internal sealed record RebuildView(
    string RepositoryId, long Packs, long PackBytes, long Chunks, long Nodes, long RecoveryPoints, double Seconds, long ProblemsTotal, IReadOnlyList<ProblemView> Problems);

internal sealed record ProblemView(string Object, string Problem);
