namespace VirtBackup.Controller.Groups;

/// <summary>How long the machines of a group wait for each other at each step of their cut. Agents have limits of their own, which hold without the controller.</summary>
public sealed record GroupCutLimits
{
    /// <summary>For all that can be done without touching a guest.</summary>
    public TimeSpan Ready { get; init; } = TimeSpan.FromMinutes(5);

    /// <summary>For the hooks before the freeze.</summary>
    public TimeSpan Prepared { get; init; } = TimeSpan.FromSeconds(150);

    /// <summary>From then until all stand still.</summary>
    public TimeSpan Frozen { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>From then until all are cut.</summary>
    public TimeSpan Cut { get; init; } = TimeSpan.FromSeconds(15);

    /// <summary>From then until it is known of all whether they had stood still.</summary>
    public TimeSpan Released { get; init; } = TimeSpan.FromMinutes(1);
}
