using VirtBackup.Hypervisors.Guests;

namespace VirtBackup.Hypervisors.Libvirt;

/// <summary>What the driver needs to know about the host.</summary>
/// <param name="Uris">Connections to libvirt on this host, each served independently.</param>
/// <param name="FleeceFolder">
/// Absolute path of a folder that QEMU's user can enter, for the temporary copies of what guests overwrite while a capture lasts.
/// </param>
public sealed record LibvirtOptions(IReadOnlyList<string> Uris, string FleeceFolder)
{
    public const string SystemUri = "qemu:///system";

    /// <summary>Absolute path of a folder of this driver's own for records of machines that come and go, and of moves of disks; null: they cannot.</summary>
    public string? StateFolder { get; init; }

    /// <summary>Names of machines to serve; empty: all.</summary>
    public IReadOnlySet<string> Include { get; init; } = new HashSet<string>();

    /// <summary>Names of machines to leave alone.</summary>
    public IReadOnlySet<string> Exclude { get; init; } = new HashSet<string>();

    internal bool Serves(string name) => (Include.Count == 0 || Include.Contains(name)) && !Exclude.Contains(name);

    public string QemuImg { get; init; } = "qemu-img";

    public string QemuNbd { get; init; } = "qemu-nbd";

    /// <summary>
    /// A capture is refused, and a running one given up, when the fleece folder's file system has less than this free: with
    /// libvirt's method, copies that find no space fail the guest's writes. Bytes.
    /// </summary>
    public long FleeceFreeBytesMin { get; init; } = 1L << 30;

    /// <summary>How often free space is looked at while a capture lasts.</summary>
    public TimeSpan FleeceWatchInterval { get; init; } = TimeSpan.FromMilliseconds(100);

    /// <summary>The longest wait for an answer of libvirt.</summary>
    public TimeSpan CallTimeout { get; init; } = TimeSpan.FromSeconds(60);

    /// <summary>The longest wait for libvirt to begin or to end a capture, or to start a machine.</summary>
    public TimeSpan WorkTimeout { get; init; } = TimeSpan.FromMinutes(3);

    /// <summary>How long the guest agent of a restored machine is waited for, to send it a thaw.</summary>
    public TimeSpan GuestStartTimeout { get; init; } = TimeSpan.FromSeconds(60);

    /// <summary>
    /// QEMU's monitor may be spoken to past libvirt, for histograms of the guest's write latency; libvirt then marks the machine as
    /// tainted (<c>custom-monitor</c>). Otherwise only the mean is measured.
    /// </summary>
    public bool MonitorCommands { get; init; } = true;

    /// <summary>Watches over guests while they are frozen; null: nobody does.</summary>
    public IFreezeGuard? Guard { get; init; }

    /// <summary>Reads or writes of one disk under way at once.</summary>
    public int RequestsInFlight { get; init; } = 32;

    /// <summary>Told when a connection is lost, when it is there again, and what of a killed run cannot be tidied up.</summary>
    public Action<string>? Report { get; init; }
}
