using System.Runtime.InteropServices;

namespace VirtBackup.Hypervisors.Libvirt.Native;

/// <summary>What libvirt's C interface has for copying disks of running machines; as <see cref="LibvirtCalls"/>.</summary>
internal static partial class LibvirtBlockJobs
{
    /// <summary>The machine may be persistent: its definition is changed with it.</summary>
    public const uint TransientJob = 4;

    /// <summary>What the guest writes is written to both places at once (libvirt 8.0).</summary>
    public const uint SynchronousWrites = 8;
    public const uint Pivot = 2;
    public const uint SpeedInBytes = 1;

    [LibraryImport(LibvirtCalls.Library, EntryPoint = "virDomainBlockCopy", StringMarshalling = StringMarshalling.Utf8)]
    public static partial int Copy(DomainHandle domain, string disk, string destinationXml, nint parameters, int count, uint flags);

    [LibraryImport(LibvirtCalls.Library, EntryPoint = "virDomainBlockJobSetSpeed", StringMarshalling = StringMarshalling.Utf8)]
    public static partial int SetSpeed(DomainHandle domain, string disk, nuint bandwidth, uint flags);

    /// <returns>0: there is no job.</returns>
    [LibraryImport(LibvirtCalls.Library, EntryPoint = "virDomainGetBlockJobInfo", StringMarshalling = StringMarshalling.Utf8)]
    public static partial int GetInfo(DomainHandle domain, string disk, out BlockJobInfo info, uint flags);

    [LibraryImport(LibvirtCalls.Library, EntryPoint = "virDomainBlockJobAbort", StringMarshalling = StringMarshalling.Utf8)]
    public static partial int End(DomainHandle domain, string disk, uint flags);

    [LibraryImport(LibvirtCalls.Library, EntryPoint = "virDomainSuspend")]
    public static partial int Suspend(DomainHandle domain);

    [LibraryImport(LibvirtCalls.Library, EntryPoint = "virDomainResume")]
    public static partial int Resume(DomainHandle domain);
}

/// <summary>virDomainBlockJobInfo.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct BlockJobInfo
{
    public int Type;
    public nuint Bandwidth;
    public ulong Current;
    public ulong End;
}
