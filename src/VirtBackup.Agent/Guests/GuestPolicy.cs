using VirtBackup.Core;
using VirtBackup.Hypervisors.Guests;
using VirtBackup.Protocol.Common.V1;

namespace VirtBackup.Agent.Guests;

/// <summary>How a guest is treated while it is backed up.</summary>
public sealed record GuestPolicy
{
    /// <summary>The longest <see cref="QuiesceTimeout"/>.</summary>
    public const int QuiesceSecondsMax = 600;

    /// <summary>Longest wait for the guest agent's freeze before going on crash-consistently.</summary>
    public TimeSpan QuiesceTimeout { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>A guest is frozen no longer than this, whether its cut is made or not.</summary>
    public TimeSpan FreezeLimit { get; init; } = TimeSpan.FromSeconds(20);

    public GuestHooks Hooks { get; init; } = GuestHooks.None;

    public ImpactBudget Budget { get; init; } = new();

    /// <summary>This policy with what one backup asks for instead.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.InvalidArgument"/>: something that cannot be.</exception>
    public GuestPolicy With(BackupOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        var policy = this;
        if (options.QuiesceTimeoutSeconds > 0)
        {
            policy = options.QuiesceTimeoutSeconds <= QuiesceSecondsMax
                ? policy with { QuiesceTimeout = TimeSpan.FromSeconds(options.QuiesceTimeoutSeconds) }
                : throw new FaultException(FaultReason.InvalidArgument, $"A guest is waited for at most {QuiesceSecondsMax} s.");
        }
        if (options.HasWriteLatencyFactorMax)
        {
            policy = options.WriteLatencyFactorMax is 0 or (>= 1 and <= 1000)
                ? policy with { Budget = policy.Budget with { FactorMax = options.WriteLatencyFactorMax } }
                : throw new FaultException(FaultReason.InvalidArgument, "A budget for the guest's write latency is a factor between 1 and 1000, or 0 for none.");
        }
        return policy;
    }
}

/// <summary>How much slower a guest's writes may become by a backup. Reading gives way, down to a floor, so that the backup ends.</summary>
/// <param name="FactorMax">Of the mean before the cut; 0: nobody watches.</param>
public sealed record ImpactBudget(double FactorMax = 2)
{
    /// <summary>A mean below this is never held against a backup.</summary>
    public TimeSpan Free { get; init; } = TimeSpan.FromMilliseconds(1);

    /// <summary>Bytes per second that are read in any case; positive.</summary>
    public long ReadBytesPerSecondMin { get; init; } = 4 << 20;

    public bool IsWatched => FactorMax > 0;
}

/// <summary>The policies of a host's guests.</summary>
/// <param name="Others">Of guests without one of their own.</param>
public sealed record GuestPolicies(GuestPolicy Others, IReadOnlyDictionary<Id16, GuestPolicy> Own)
{
    public static GuestPolicies Default { get; } = new(new GuestPolicy(), new Dictionary<Id16, GuestPolicy>());

    public GuestPolicy Of(Id16 machine) => Own.GetValueOrDefault(machine, Others);
}
