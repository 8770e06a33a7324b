using VirtBackup.Testing.Lab;

namespace VirtBackup.Proofs.Comparison;

/// <summary>Faults planted around the product, each of which the proof has to notice.</summary>
internal static class Sabotages
{
    public const string Uncompressed = "uncompressed";
    public const string AlteredDisk = "altered-disk";
    public const string LateThaw = "late-thaw";

    public static IReadOnlyList<(string Name, string What)> All { get; } =
    [
        (Uncompressed, "puts the disk's data into the repository as they are, as an agent would that does not compress"),
        (AlteredDisk, "changes a byte of the disk that VirtBackup restored"),
        (LateThaw, "stops the agent for some seconds when the guest has said that it is frozen, so that the thaw comes late"),
    ];

    public static Task StoreAsync(string image, string repository) =>
        Proc.CheckAsync("qemu-img", ["convert", "-f", "raw", "-O", "qcow2", image, Path.Combine(repository, "uncompressed")], Patience.Image);

    public static async Task AlterAsync(string disk, Random random)
    {
        var at = random.Next(1 << 20) * 64L;
        var before = await Proc.CheckAsync("qemu-io", ["-r", "-f", "qcow2", "-c", $"read -v {at} 1", disk]);
        var was = Convert.ToInt32(before.Split(':')[1].Trim()[..2], 16);
        await Proc.CheckAsync("qemu-io", ["-f", "qcow2", "-c", $"write -P {was ^ 1} {at} 1", disk]);
    }
}

/// <summary>How long steps may take that are not measured, or must not hang.</summary>
internal static class Patience
{
    public static readonly TimeSpan Image = TimeSpan.FromMinutes(10);

    public static readonly TimeSpan Work = TimeSpan.FromMinutes(10);
}
