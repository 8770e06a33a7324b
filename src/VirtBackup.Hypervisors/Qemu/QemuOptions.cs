using VirtBackup.Core;
using VirtBackup.Hypervisors.Guests;

namespace VirtBackup.Hypervisors.Qemu;

/// <summary>A machine that the driver may talk to.</summary>
/// <param name="QmpSocket">Absolute path of a QMP monitor socket that nobody else keeps open.</param>
/// <param name="GuestAgentSocket">Absolute path of the guest agent's socket; null: captures are crash-consistent.</param>
public sealed record QemuMachine(Id16 Uuid, string Name, string QmpSocket, string? GuestAgentSocket = null);

/// <summary>What the driver needs to know about the host.</summary>
/// <param name="FleeceFolder">
/// Absolute path of a folder, reachable by the QEMU processes, for the temporary copies of what guests overwrite while a capture lasts.
/// </param>
public sealed record QemuOptions(string FleeceFolder)
{
    /// <summary>
    /// Absolute path of a folder where the driver remembers how each machine was started when it was last captured, for
    /// restores onto machines that are off; null: it relies on what the recovery point says.
    /// </summary>
    public string? StateFolder { get; init; }

    public string QemuImg { get; init; } = "qemu-img";

    public string QemuNbd { get; init; } = "qemu-nbd";

    /// <summary>A capture is refused when the fleece folder's file system has less than this free. Bytes.</summary>
    public long FleeceFreeBytesMin { get; init; } = 256L << 20;

    /// <summary>
    /// The longest that a guest's write waits for its old content to be copied; after that the capture is given up,
    /// never the guest's write. Whole seconds.
    /// </summary>
    public TimeSpan CopyTimeout { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>
    /// Copy only what an increment lists, and what <see cref="CaptureRequest.AlsoReadable"/> names. Saves fleece space, but
    /// then reading anything else fails: for callers that never round ranges up.
    /// </summary>
    public bool FleeceListedExtentsOnly { get; init; }

    /// <summary>The longest wait for a monitor's greeting.</summary>
    public TimeSpan GreetingTimeout { get; init; } = TimeSpan.FromSeconds(5);

    /// <summary>The longest wait for a monitor command.</summary>
    public TimeSpan CommandTimeout { get; init; } = TimeSpan.FromSeconds(60);

    /// <summary>The longest wait for the guest agent to answer at all.</summary>
    public TimeSpan GuestAgentTimeout { get; init; } = TimeSpan.FromSeconds(3);

    /// <summary>The longest wait for a restored machine's monitor.</summary>
    public TimeSpan LaunchTimeout { get; init; } = TimeSpan.FromSeconds(60);

    /// <summary>The longest wait for the guest agent of a machine that was just restored and started: the guest has to boot first.</summary>
    public TimeSpan GuestStartTimeout { get; init; } = TimeSpan.FromSeconds(60);

    /// <summary>Watches over guests while they are frozen or stopped; null: nobody does, and a killed process leaves them so until the next one starts.</summary>
    public IFreezeGuard? Guard { get; init; }

    /// <summary>Reads or writes of one disk under way at once.</summary>
    public int RequestsInFlight { get; init; } = 32;
}
