namespace VirtBackup.Core;

/// <summary>Why an operation was refused or failed. Stable: code switches on it, and it crosses the wire.</summary>
public enum FaultReason
{
    Unspecified = 0,
    /// <summary>Bytes from outside do not obey their format.</summary>
    Malformed,
    /// <summary>Stored bytes fail their checksum, id or key.</summary>
    Corrupt,
    NotFound,
    AlreadyExists,
    /// <summary>The caller may not do this.</summary>
    Denied,
    /// <summary>The caller's session or attempt was taken over by a newer one.</summary>
    Fenced,
    SessionExpired,
    /// <summary>A commit names chunks, nodes or keys that are not durable.</summary>
    Incomplete,
    /// <summary>No space is left on a device.</summary>
    DeviceFull,
    /// <summary>Another process owns the repository.</summary>
    RepositoryBusy,
    /// <summary>A format feature, hypervisor feature or capability is missing.</summary>
    Unsupported,
    /// <summary>The virtual machine, its monitor or its guest agent did not answer or went away.</summary>
    HypervisorUnavailable,
    /// <summary>The point-in-time view of a disk was lost while it was being read.</summary>
    SnapshotLost,
    InvalidArgument,
    /// <summary>The operation is not possible in the present state.</summary>
    FailedPrecondition,
    Cancelled,
    Unavailable,
    RetentionLocked,
}

/// <summary>
/// An expected failure with one clear message for people: what, where, and what to do. Programmer errors are
/// <see cref="Check"/> failures instead.
/// </summary>
public sealed class FaultException : Exception
{
    public FaultException(FaultReason reason, string message, Exception? inner = null)
        : base(message, inner) => Reason = reason;

    public FaultReason Reason { get; }

    /// <summary>A format violation in bytes that came from outside.</summary>
    public static FaultException Malformed(string message) => new(FaultReason.Malformed, message);

    public static FaultException Corrupt(string message) => new(FaultReason.Corrupt, message);
}
