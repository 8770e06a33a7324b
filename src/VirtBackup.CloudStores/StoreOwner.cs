using VirtBackup.Core;

namespace VirtBackup.CloudStores;

/// <summary>What the one process that may change a store gives it. A store in a folder needs nothing but <see cref="Entropy"/>.</summary>
public sealed record StoreOwner
{
    /// <summary>Where objects on their way to a provider lie; one process's own.</summary>
    public required string SpoolFolder { get; init; }

    /// <summary>What the device of <see cref="SpoolFolder"/> must have free, bytes: enough for backups unless told otherwise.</summary>
    public long SpoolFreeBytesMin { get; init; } = Spool.SpoolFolder.FreeBytesMin;

    /// <summary>Where copies of what is read again and again lie, one process's own; null: none are kept.</summary>
    public string? CopiesFolder { get; init; }

    /// <summary>Names staged objects.</summary>
    public required IEntropy Entropy { get; init; }

    /// <summary>Told, at most once, that another owner's lease is waited for.</summary>
    public Action<string>? OnWait { get; init; }
}
