using System.Globalization;
using VirtBackup.Core;

namespace VirtBackup.Catalog.Retention;

/// <summary>What decides whether a recovery point stays. Times are Unix milliseconds by the controller's clock.</summary>
/// <param name="Id">The point.</param>
/// <param name="TimeMs">When it was made.</param>
/// <param name="IsVerified">Its newest verification found it sound.</param>
/// <param name="IsHeld">Somebody holds it.</param>
/// <param name="IsInUse">A job reads it or builds on it.</param>
/// <param name="LockedUntilMs">0: not locked.</param>
public readonly record struct RetentionPoint(
    Id16 Id, long TimeMs, bool IsVerified = false, bool IsHeld = false, bool IsInUse = false, long LockedUntilMs = 0);

/// <summary>Why a point is kept.</summary>
public enum KeepCause
{
    Last,
    Hourly,
    Daily,
    Weekly,
    Monthly,
    Yearly,
    Within,

    /// <summary>There are no rules.</summary>
    Everything,

    /// <summary>The machine's newest point.</summary>
    Latest,

    /// <summary>The newest of the machine's points that were verified.</summary>
    LastVerified,
    Held,
    Locked,
    InUse,

    /// <summary>Its time lies ahead: the clock was wrong. It counts for no rule.</summary>
    Future,
}

/// <summary>One reason to keep a point.</summary>
/// <param name="Cause">What keeps it.</param>
/// <param name="Place">Which one of the points that this rule keeps it is, from 1; 0 for what is no counting rule.</param>
/// <param name="Count">How many points the rule keeps; 0 for what is no counting rule.</param>
public readonly record struct KeepReason(KeepCause Cause, int Place = 0, int Count = 0)
{
    public override string ToString() => Cause switch
    {
        KeepCause.Everything => "no rules: everything is kept",
        KeepCause.Within => "within",
        KeepCause.Latest => "latest",
        KeepCause.LastVerified => "last verified",
        KeepCause.Held => "held",
        KeepCause.Locked => "locked",
        KeepCause.InUse => "in use",
        KeepCause.Future => "dated in the future",
#pragma warning disable CA1308 // for people
        _ => string.Create(CultureInfo.InvariantCulture, $"{Cause.ToString().ToLowerInvariant()} {Place} of {Count}"),
#pragma warning restore CA1308
    };
}

/// <summary>What becomes of a point: it stays for these reasons, or expires because there is none.</summary>
public sealed record RetentionVerdict(RetentionPoint Point, IReadOnlyList<KeepReason> Reasons)
{
    public bool Expires => Reasons.Count == 0;
}
