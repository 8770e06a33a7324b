using VirtBackup.CloudStores.Requests;
using VirtBackup.Core;

namespace VirtBackup.CloudStores;

/// <summary>How a store is opened.</summary>
public sealed record CloudStoreOptions
{
    /// <summary>Where objects lie until they are acknowledged; one process's own. Null: the store is opened for reading only.</summary>
    public string? SpoolFolder { get; init; }

    /// <summary>What the spool's device must have free, bytes: enough for backups unless told otherwise.</summary>
    public long SpoolFreeBytesMin { get; init; } = Spool.SpoolFolder.FreeBytesMin;

    /// <summary>Where copies of what is read again and again lie; one process's own, and never needed. Null: none are kept.</summary>
    public string? CopiesFolder { get; init; }

    /// <summary>Bytes of all copies.</summary>
    public long CopiesBytesMax { get; init; }

    /// <summary>How the provider enforces retention locks.</summary>
    public ProviderLock Lock { get; init; }

    /// <summary>How long requests may take.</summary>
    public RequestPatience Patience { get; init; } = new();

    /// <summary>Measures time limits and pauses.</summary>
    public TimeProvider Time { get; init; } = TimeProvider.System;

    /// <summary>Names spooled files and publications, and lengthens pauses.</summary>
    public IEntropy Entropy { get; init; } = SystemEntropy.Instance;
}
