namespace VirtBackup.Proofs.StateResume;

/// <summary>Faults planted around the product, each of which the proof has to notice.</summary>
internal static class Sabotages
{
    public const string OneAfterTheOther = "one-after-the-other";
    public const string BootAnew = "boot-anew";
    public const string OlderPoint = "older-point";

    public static IReadOnlyList<(string Name, string What)> All { get; } =
    [
        (OneAfterTheOther, "captures the second guest when it has exchanged further messages with the first, as without a common cut"),
        (BootAnew, "restores one guest without its running state"),
        (OlderPoint, "restores one guest as it was some messages before the common cut"),
    ];
}
