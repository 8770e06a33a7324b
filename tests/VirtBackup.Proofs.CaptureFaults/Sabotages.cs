namespace VirtBackup.Proofs.CaptureFaults;

/// <summary>Faults planted around the product, each of which the proof has to notice.</summary>
internal static class Sabotages
{
    public const string LeaveFrozen = "leave-frozen";
    public const string FailWrites = "fail-writes";
    public const string AlterRestored = "alter-restored";
    public const string LoseMark = "lose-mark";

    public static IReadOnlyList<(string Name, string What)> All { get; } =
    [
        (LeaveFrozen, "the guest's file system stays frozen after the fault, as if nobody had thawed it"),
        (FailWrites, "one of the guest's writes fails during the fault, as when a copy finds no room"),
        (AlterRestored, "64 KiB of the disk that the next run restores are not what the guest wrote"),
        (LoseMark, "a disk that was being restored in place is half of it, and its mark is gone"),
    ];
}
