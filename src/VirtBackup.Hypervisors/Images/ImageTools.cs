namespace VirtBackup.Hypervisors.Images;

/// <summary>The programs that open images, and how hard they may work.</summary>
public sealed record ImageTools
{
    public string QemuImg { get; init; } = "qemu-img";

    public string QemuNbd { get; init; } = "qemu-nbd";

    /// <summary>Reads or writes of one image under way at once.</summary>
    public int RequestsInFlight { get; init; } = 32;

    /// <summary>
    /// Absolute path of a private folder of the agent for marks of devices that are restored in place, beside which none would last;
    /// null: devices are not restored in place.
    /// </summary>
    public string? StateFolder { get; init; }

    internal TimeProvider Time { get; init; } = TimeProvider.System;
}
