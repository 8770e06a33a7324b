using Microsoft.Win32.SafeHandles;
using System.Runtime.InteropServices;
using VirtBackup.Testing.Lab;

namespace VirtBackup.Testing.Links;

/// <summary>Calls of Linux that .NET does not have: network namespaces, TUN devices, and waiting for one of them for less than a millisecond.</summary>
internal static class KernelCalls
{
    private const int CloneNewNetwork = 0x4000_0000;
    private const uint SetInterface = 0x4004_54ca;
    private const uint SetOffload = 0x4004_54d0;
    private const nint OffloadTcp4 = 3;
    private const int OpenReadWrite = 2;
    private const int OpenNonBlocking = 0x800;
    private const int OpenCloseOnExec = 0x8_0000;
    private const short PollIn = 1;

    /// <summary>Gives this thread a network namespace of its own.</summary>
    public static void Unshare()
    {
        if (Unshare(CloneNewNetwork) != 0) throw Refused("a network namespace of its own (unshare)");
    }

    /// <summary>Moves this thread to another network namespace.</summary>
    public static void Enter(SafeFileHandle space)
    {
        if (SetNamespace(space, CloneNewNetwork) != 0) throw Refused("to enter a network namespace (setns)");
    }

    /// <summary>
    /// A device of a name that is free in this thread's namespace. Reads and writes are whole packets, each behind a
    /// <see cref="PacketHeader"/>, and never wait.
    /// </summary>
    /// <param name="large">The kernel may hand over many TCP segments as one, and takes such.</param>
    public static SafeFileHandle OpenTun(string name, bool large)
    {
        var handle = new SafeFileHandle(Open(TunDevice.Clone, OpenReadWrite | OpenNonBlocking | OpenCloseOnExec), ownsHandle: true);
        if (handle.IsInvalid) throw Refused($"to open {TunDevice.Clone}");
        var request = new InterfaceRequest { Name = name, Flags = InterfaceRequest.TunWithPacketHeader };
        if (Control(handle, SetInterface, ref request) == 0 && (!large || Control(handle, SetOffload, OffloadTcp4) == 0)) return handle;
        handle.Dispose();
        throw Refused("a TUN device (TUNSETIFF)");
    }

    /// <returns>Bytes of the packet; 0 when there is none.</returns>
    public static int ReadPacket(SafeFileHandle tun, byte[] buffer) => (int)Math.Max(0, Read(tun, ref buffer[0], buffer.Length));

    /// <summary>Hands a packet to the kernel. One that it does not take is lost, as on a link.</summary>
    public static void WritePacket(SafeFileHandle tun, byte[] buffer, int length) => Write(tun, ref buffer[0], length);

    /// <summary>Waits until there is a packet, or for that long, or for less when a signal comes.</summary>
    public static void AwaitPacket(SafeFileHandle tun, TimeSpan limit)
    {
        var descriptor = new PollDescriptor { Descriptor = (int)tun.DangerousGetHandle(), Events = PollIn };
        var time = new TimeSpec { Seconds = (long)limit.TotalSeconds, Nanoseconds = limit.Ticks % TimeSpan.TicksPerSecond * 100 };
        _ = Poll(ref descriptor, 1, ref time, 0);
    }

    private static LabException Refused(string what) =>
        new($"The kernel refuses {what}: {Marshal.GetPInvokeErrorMessage(Marshal.GetLastPInvokeError())}. Sites and links of the tests need root, with CAP_SYS_ADMIN and CAP_NET_ADMIN.");

    [StructLayout(LayoutKind.Sequential, CharSet = CharSet.Ansi)]
    private struct InterfaceRequest
    {
        public const short TunWithPacketHeader = 0x5001;

        [MarshalAs(UnmanagedType.ByValTStr, SizeConst = 16)]
        public string Name;

        public short Flags;

        [MarshalAs(UnmanagedType.ByValArray, SizeConst = 22)]
        public byte[]? Padding;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct PollDescriptor
    {
        public int Descriptor;
        public short Events;
        public short Returned;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct TimeSpec
    {
        public long Seconds;
        public long Nanoseconds;
    }

    [DllImport("libc", EntryPoint = "unshare", SetLastError = true)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static extern int Unshare(int flags);

    [DllImport("libc", EntryPoint = "setns", SetLastError = true)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static extern int SetNamespace(SafeFileHandle space, int kind);

    [DllImport("libc", EntryPoint = "open", SetLastError = true, BestFitMapping = false)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static extern nint Open([MarshalAs(UnmanagedType.LPUTF8Str)] string path, int flags);

    [DllImport("libc", EntryPoint = "ioctl", SetLastError = true, BestFitMapping = false)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static extern int Control(SafeFileHandle file, nuint request, ref InterfaceRequest argument);

    [DllImport("libc", EntryPoint = "ioctl", SetLastError = true)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static extern int Control(SafeFileHandle file, nuint request, nint argument);

    [DllImport("libc", EntryPoint = "read", SetLastError = true)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static extern nint Read(SafeFileHandle file, ref byte buffer, nint count);

    [DllImport("libc", EntryPoint = "write", SetLastError = true)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static extern nint Write(SafeFileHandle file, ref byte buffer, nint count);

    [DllImport("libc", EntryPoint = "ppoll", SetLastError = true)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static extern int Poll(ref PollDescriptor descriptors, nuint count, ref TimeSpec limit, nint signals);
}
