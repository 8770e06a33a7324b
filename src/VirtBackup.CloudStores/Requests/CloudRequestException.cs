using VirtBackup.Core;

namespace VirtBackup.CloudStores.Requests;

/// <summary>How one request failed, and whether another one may go better.</summary>
internal enum FailureKind
{
    /// <summary>The provider or the way to it failed: worth another try.</summary>
    Passing,

    /// <summary>The provider asks to be spared: worth another try, later.</summary>
    Throttled,

    /// <summary>The condition of the request was not met.</summary>
    ConditionFailed,

    NotFound,

    /// <summary>The range lies behind the object's end.</summary>
    BehindEnd,

    /// <summary>No other try will help: <see cref="CloudRequestException.Reason"/> and <see cref="CloudRequestException.Advice"/> say why.</summary>
    Final,
}

/// <summary>One failed request; never leaves the stores.</summary>
internal sealed class CloudRequestException(FailureKind kind, string detail, Exception? inner = null) : Exception(detail, inner)
{
    public FailureKind Kind { get; } = kind;

    /// <summary>Of a <see cref="FailureKind.Final"/> failure.</summary>
    public FaultReason Reason { get; init; } = FaultReason.Unavailable;

    /// <summary>What people can do about a <see cref="FailureKind.Final"/> failure.</summary>
    public string Advice { get; init; } = "";

    public static CloudRequestException Final(FaultReason reason, string detail, string advice, Exception inner) =>
        new(FailureKind.Final, detail, inner) { Reason = reason, Advice = advice };

    public bool IsWorthRepeating => Kind is FailureKind.Passing or FailureKind.Throttled;
}
