namespace VirtBackup.Agent.Auditing;

/// <summary>How much of what change tracking calls unchanged is read again.</summary>
/// <param name="Runs">Runs in which every disk is read again whole, 1 to <see cref="RunsMax"/>; 0: no audit.</param>
/// <param name="TimeMax">The longest that the audit of one run may take; what it leaves is the next run's. One span of a disk is always read.</param>
public sealed record AuditOptions(int Runs, TimeSpan TimeMax)
{
    public const int RunsMax = 10_000;

    public static readonly TimeSpan TimeLimitMax = TimeSpan.FromDays(1);

    public static AuditOptions Default { get; } = new(30, TimeSpan.FromMinutes(5));

    public static AuditOptions Off { get; } = Default with { Runs = 0 };

    /// <summary>These, with what a job has of its own.</summary>
    public AuditOptions With(Protocol.Common.V1.AuditOptions? asked) => asked switch
    {
        null => this,
        { Off: true } => this with { Runs = 0 },
        _ => new AuditOptions(
            asked.Runs == 0 ? Runs : (int)Math.Min(asked.Runs, RunsMax),
            asked.SecondsMax == 0 ? TimeMax : TimeSpan.FromSeconds(Math.Min(asked.SecondsMax, TimeLimitMax.TotalSeconds))),
    };
}
