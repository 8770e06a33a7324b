using System.ComponentModel;
using System.Net.Sockets;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace VirtBackup.Hypervisors.Qemu;

/// <summary>Hands an open file to the process at the other end of a unix socket (sendmsg(2), cmsg(3)). Of Linux with 64 bits.</summary>
internal static partial class DescriptorPassing
{
    private const int SocketLevel = 1; // SOL_SOCKET
    private const int Rights = 1; // SCM_RIGHTS
    private const int NoSignal = 0x4000; // MSG_NOSIGNAL

    /// <returns>What went wrong; null: all was sent.</returns>
    public static unsafe string? Send(Socket socket, ReadOnlySpan<byte> bytes, SafeFileHandle file)
    {
        if (!OperatingSystem.IsLinux() || IntPtr.Size != 8)
        {
            return "this system does not know how";
        }
        var held = false;
        try
        {
            file.DangerousAddRef(ref held);
            fixed (byte* data = bytes)
            {
                var part = new Part { Data = (nint)data, Length = (nuint)bytes.Length };
                var control = new Control { Length = (nuint)(sizeof(Control) - sizeof(int)), Level = SocketLevel, Kind = Rights, Descriptor = (int)file.DangerousGetHandle() };
                var message = new Message { Parts = (nint)(&part), PartCount = 1, Controls = (nint)(&control), ControlBytes = (nuint)sizeof(Control) };
                var sent = SendMessage((int)socket.Handle, &message, NoSignal);
                return sent == bytes.Length ? null : sent < 0 ? new Win32Exception(Marshal.GetLastPInvokeError()).Message : "it took only a part";
            }
        }
        finally
        {
            if (held)
            {
                file.DangerousRelease();
            }
        }
    }

    [LibraryImport("libc", EntryPoint = "sendmsg", SetLastError = true)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static unsafe partial nint SendMessage(int socket, Message* message, int flags);

    [StructLayout(LayoutKind.Sequential)]
    private struct Part
    {
        public nint Data;
        public nuint Length;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct Message
    {
        public nint Name;
        public uint NameBytes;
        public nint Parts;
        public nuint PartCount;
        public nint Controls;
        public nuint ControlBytes;
        public int Flags;
    }

    // Its last four bytes only fill it up to the alignment.
    [StructLayout(LayoutKind.Sequential)]
    private struct Control
    {
        public nuint Length;
        public int Level;
        public int Kind;
        public int Descriptor;
        public int Padding;
    }
}
