using VirtBackup.Core;

namespace VirtBackup.CloudStores.Leases;

/// <summary>Who takes the lease of a store, and for how long.</summary>
public sealed record LeaseTerms
{
    /// <summary>A lease of the same holder is an earlier process's, which is known to have ended: it is not waited for.</summary>
    public required Id16 Holder { get; init; }

    /// <summary>For people, such as "process 12 on host1".</summary>
    public required string HolderName { get; init; }

    /// <summary>So long after its last renewal it ends, 1 ms to 1 h.</summary>
    public TimeSpan Length { get; init; } = TimeSpan.FromSeconds(90);

    /// <summary>Measures it; wall clocks do not matter. Its timestamps must go on while the host sleeps: others may take the lease meanwhile.</summary>
    public TimeProvider Time { get; init; } = TimeProvider.System;

    public IEntropy Entropy { get; init; } = SystemEntropy.Instance;

    /// <summary>Told, at most once, that another holder's lease is waited for.</summary>
    public Action<string>? OnWait { get; init; }
}
