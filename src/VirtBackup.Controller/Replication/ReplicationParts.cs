using VirtBackup.Catalog;
using VirtBackup.Controller.Control;
using VirtBackup.Controller.Retention;
using VirtBackup.Controller.Store;
using VirtBackup.Core;
using VirtBackup.Repository;
using VirtBackup.Repository.Points;

namespace VirtBackup.Controller.Replication;

/// <summary>What pulling works with.</summary>
public sealed record ReplicationParts
{
    public required BackupRepository Repository { get; init; }

    /// <summary>The repository's objects.</summary>
    public required IObjectStore Store { get; init; }

    public required CatalogDatabase Catalog { get; init; }

    public required PointDescriber Describer { get; init; }

    public required PointLocks Locks { get; init; }

    /// <summary>Of locks that rules place.</summary>
    public required LockEnforcement Enforcement { get; init; }

    public required ITrustedClock Clock { get; init; }

    public required JobService Jobs { get; init; }

    public required PeerLinks Links { get; init; }

    /// <summary>The kind of storage that the repository is in: folder, s3, azure.</summary>
    public string StoreKind { get; init; } = "";

    public required IEntropy Entropy { get; init; }

    public required TimeProvider Time { get; init; }
}
