namespace VirtBackup.Proofs.DependencyOrder;

/// <summary>Faults planted around the order, each of which the proof has to notice.</summary>
internal static class Sabotages
{
    public const string ForgetEdge = "forget-edge";
    public const string IdleSlot = "idle-slot";
    public const string ReadyTooSoon = "ready-too-soon";
    public const string LoseDependency = "lose-dependency";

    public static IReadOnlyList<(string Name, string What)> All { get; } =
    [
        (ForgetEdge, "simulated: the order is not told one of the dependencies"),
        (IdleSlot, "simulated: the order works with one slot where there is no limit"),
        (ReadyTooSoon, "real machines: the probe of a machine that others need succeeds at once"),
        (LoseDependency, "real machines: a dependency is removed again before the recovery"),
    ];
}
