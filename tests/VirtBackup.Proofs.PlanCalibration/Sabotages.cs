using System.Reflection;
using VirtBackup.Catalog.Estimates;

namespace VirtBackup.Proofs.PlanCalibration;

/// <summary>Faults planted in the estimator or before what the plan says, each of which the proof has to notice.</summary>
internal static class Sabotages
{
    public const string IgnoreLoad = "ignore-load";
    public const string NarrowInterval = "narrow-interval";
    public const string SwallowFinding = "swallow-finding";

    public static IReadOnlyList<(string Name, string What)> All { get; } =
    [
        (IgnoreLoad, "estimates do not follow how fast the path is now, nor how many jobs run side by side"),
        (NarrowInterval, "what is called P90 is a P70"),
        (SwallowFinding, "one kind of incompatibility is not reported"),
    ];

    /// <summary>Alters what estimates are judged by, in this process.</summary>
    public static void Plant(string? sabotage)
    {
        switch (sabotage)
        {
            case IgnoreLoad:
                Set(nameof(EstimatorSettings.SampleSlope), 0.0);
                Set(nameof(EstimatorSettings.NeighbourSlope), 0.0);
                Set(nameof(EstimatorSettings.SlopeWeight), 1e9);
                break;
            case NarrowInterval:
                Set(nameof(EstimatorSettings.Level), 0.7);
                break;
        }
    }

    private static void Set(string name, double value) =>
        typeof(EstimatorSettings).GetField($"<{name}>k__BackingField", BindingFlags.Instance | BindingFlags.NonPublic)!.SetValue(EstimatorSettings.Default, value);
}
