using System.Runtime.InteropServices;
using VirtBackup.Core;

namespace VirtBackup.Hypervisors.Libvirt.Native;

/// <summary>
/// The part of libvirt's C interface that knows QEMU (libvirt-qemu.so.0, a library of its own). libvirt marks a machine as
/// tainted from then on: it cannot know what such commands do.
/// </summary>
internal static partial class LibvirtQemuCalls
{
    public const string Library = "libvirt-qemu.so.0";

    /// <summary>The guest agent's answer, as it gave it.</summary>
    /// <param name="timeoutSeconds">Above 0.</param>
    [LibraryImport(Library, EntryPoint = "virDomainQemuAgentCommand", StringMarshalling = StringMarshalling.Utf8)]
    public static partial nint AskAgent(DomainHandle domain, string command, int timeoutSeconds, uint flags);

    [LibraryImport(Library, EntryPoint = "virDomainQemuMonitorCommand", StringMarshalling = StringMarshalling.Utf8)]
    public static partial int AskMonitor(DomainHandle domain, string command, out nint reply, uint flags);

    public static FaultException Missing(Exception failure) => new(FaultReason.Unsupported,
        $"libvirt's client library {Library} is not installed on this host, so its guests cannot be spoken to. It comes with {LibvirtCalls.Library} (Debian: libvirt0).", failure);
}
