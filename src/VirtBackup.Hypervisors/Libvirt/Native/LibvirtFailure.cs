using System.Runtime.InteropServices;
using VirtBackup.Core;

namespace VirtBackup.Hypervisors.Libvirt.Native;

/// <summary>A failed call of libvirt, with libvirt's own words.</summary>
internal sealed class LibvirtFailure(int code, string message) : Exception(message)
{
    public const int InvalidConnection = 6, InvalidArgument = 8, NoConnection = 5, NoDomain = 42, Rpc = 39, OperationInvalid = 55, NoSupport = 3, OperationTimeout = 68,
        OperationUnsupported = 84, NoNetwork = 43, NoPool = 49, AuthenticationFailed = 45, OperationDenied = 29, NoCheckpoint = 103, NoBackup = 104, CheckpointInconsistent = 109,
        CpuIncompatible = 91, AgentUnresponsive = 86, AgentUnsynchronised = 97;

    private const int MessageBytesMax = 4096;

    /// <summary>virErrorNumber.</summary>
    public int Code => code;

    /// <summary>What libvirt said last on this thread; it must be the thread of the failed call.</summary>
    public static LibvirtFailure Last()
    {
        var error = LibvirtCalls.GetLastError();
        if (error == 0)
        {
            return new LibvirtFailure(0, "libvirt gave no reason");
        }
        var text = Marshal.ReadIntPtr(error, 2 * sizeof(int));
        var message = text == 0 ? "libvirt gave no reason" : Bounded(text);
        return new LibvirtFailure(Marshal.ReadInt32(error), message);
    }

    public FaultException ToFault(string uri) => new(Code switch
    {
        NoDomain or NoCheckpoint or NoNetwork or NoPool => FaultReason.NotFound,
        NoSupport or OperationUnsupported => FaultReason.Unsupported,
        NoConnection or InvalidConnection or Rpc or OperationTimeout => FaultReason.HypervisorUnavailable,
        AuthenticationFailed or OperationDenied => FaultReason.Denied,
        _ when Message.Contains("No space left", StringComparison.Ordinal) => FaultReason.DeviceFull,
        _ => FaultReason.FailedPrecondition,
    }, $"libvirt at {uri} says: {Message}.", this);

    private static string Bounded(nint text)
    {
        var length = 0;
        while (length < MessageBytesMax && Marshal.ReadByte(text, length) != 0)
        {
            length++;
        }
        return Marshal.PtrToStringUTF8(text, length).Trim().TrimEnd('.');
    }
}
