using VirtBackup.Core;

namespace VirtBackup.Catalog.Replication;

/// <summary>Another controller. Times are Unix milliseconds.</summary>
public sealed record PeerRow
{
    /// <summary>What it is called here, and in the certificate that it has of this site.</summary>
    public required string Name { get; init; }

    /// <summary>Of its repository; empty: it was never connected.</summary>
    public Id16 RepositoryId { get; init; }

    public required long CreatedMs { get; init; }

    /// <summary>Of the key in the certificate that it has of this site; empty: it has none.</summary>
    public Id16 TlsKeyId { get; init; }

    /// <summary>Of its newest certificate.</summary>
    public Id16 Serial { get; init; }

    public long CertificateExpiresMs { get; init; }

    /// <summary>Null: not revoked.</summary>
    public long? RevokedMs { get; init; }

    /// <summary><c>host:port</c> at which this site calls it; empty: it does not.</summary>
    public string Controller { get; init; } = "";

    /// <summary>This site calls it to answer.</summary>
    public bool Offer { get; init; }

    /// <summary>It may read the points of all machines.</summary>
    public bool AllowAll { get; init; }

    /// <summary>Grows whenever what it may read changes.</summary>
    public long AllowedRevision { get; init; }

    public string Version { get; init; } = "";

    /// <summary>0: never.</summary>
    public long LastSeenMs { get; init; }
}
