using VirtBackup.Testing.Lab;

namespace VirtBackup.Proofs.GuestImpact;

/// <summary>Faults planted around the product, each of which the proof has to notice.</summary>
internal static class Sabotages
{
    public const string ForgetThaw = "forget-thaw";
    public const string SlowWrites = "slow-writes";

    public static IReadOnlyList<(string Name, string What)> All { get; } =
    [
        (ForgetThaw, "freezes the guest's file systems when a backup begins and forgets to thaw them, as a driver might"),
        (SlowWrites, "lets QEMU take 12 writes a second while a backup reads, as a copy to a far too slow place would"),
    ];

    /// <summary>Plants what is to happen while a backup runs.</summary>
    public static async Task PlantAsync(string? sabotage, LabVm vm)
    {
        switch (sabotage)
        {
            case ForgetThaw:
                (await vm.ExecAsync("fsfreeze --freeze /data")).EnsureSuccess();
                break;
            case SlowWrites:
                await vm.QmpAsync("block_set_io_throttle", """{"id":"/machine/peripheral/disk-data/virtio-backend","bps":0,"bps_rd":0,"bps_wr":0,"iops":0,"iops_rd":0,"iops_wr":12}""");
                break;
        }
    }
}
