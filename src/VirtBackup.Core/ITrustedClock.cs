namespace VirtBackup.Core;

/// <summary>The time by which things may be deleted.</summary>
/// <param name="NowMs">Unix milliseconds; never ahead of what is known to have passed.</param>
/// <param name="MayExpire">False: the clock jumped ahead and nobody has confirmed the time yet, so nothing may expire.</param>
public readonly record struct TrustedTime(long NowMs, bool MayExpire);

/// <summary>A clock that a wrong or hostile wall clock does not carry along. Safe for concurrent use.</summary>
public interface ITrustedClock
{
    ValueTask<TrustedTime> ReadAsync(CancellationToken cancellationToken);
}
