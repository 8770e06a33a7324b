namespace VirtBackup.Proofs.ConstantMemory;

/// <summary>How large a disk is and how much of it holds content, in bytes.</summary>
internal sealed record DiskSize(string Name, long DiskBytes, long ContentBytes)
{
    private const long MiB = 1 << 20;
    private const long SpareBytes = 1 << 30;

    /// <summary>
    /// Room for the image beside the repository, which holds the warm-up's disk too; then, the image deleted, for the restored
    /// one. Half of the content compresses away.
    /// </summary>
    public long NeededBytesWith(DiskSize warmUp) => ContentBytes + (ContentBytes + warmUp.ContentBytes) * 6 / 10 + SpareBytes;

    /// <summary>The disk that both installations know already when they are measured.</summary>
    public DiskSize AsWarmUp() => this with { Name = "warm-up" };

    /// <summary>Two disks of the same density, one eight times (short: four times) the other.</summary>
    public static (DiskSize Big, DiskSize Small) Of(bool isShort) => isShort
        ? (new("big", 4096 * MiB, 1024 * MiB), new("small", 1024 * MiB, 256 * MiB))
        : (new("big", 65536 * MiB, 16384 * MiB), new("small", 8192 * MiB, 2048 * MiB));

    public override string ToString() => $"{Name} disk of {DiskBytes / MiB} MiB with {ContentBytes / MiB} MiB of content";
}
