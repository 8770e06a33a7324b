using System.Runtime.InteropServices;
using VirtBackup.Core;

namespace VirtBackup.Hypervisors.Libvirt.Native;

/// <summary>
/// Prepares the library once per process: its errors are taken from calls, not printed; its event loop notices lost
/// connections and answers keep-alive messages. Safe for concurrent use.
/// </summary>
internal static class LibvirtLibrary
{
    private delegate void ErrorHandler(nint data, nint error);

    private static readonly Lock Gate = new();
    private static readonly ErrorHandler Silent = static (_, _) => { };
    private static bool prepared;

    /// <exception cref="FaultException"><see cref="FaultReason.Unsupported"/>: the library is not installed, or too old.</exception>
    public static void Prepare(IBlockingCalls blocking)
    {
        lock (Gate)
        {
            if (prepared)
            {
                return;
            }
            try
            {
                LibvirtValues.Require(LibvirtCalls.Initialize());
                LibvirtCalls.SetErrorHandler(0, Marshal.GetFunctionPointerForDelegate(Silent));
                LibvirtValues.Require(LibvirtCalls.RegisterEventLoop());
            }
            catch (DllNotFoundException failure)
            {
                throw new FaultException(FaultReason.Unsupported,
                    $"libvirt's client library {LibvirtCalls.Library} is not installed on this host, so its machines cannot be reached. Install it (Debian: libvirt0), or remove 'libvirt' from agent.yaml.", failure);
            }
            catch (EntryPointNotFoundException failure)
            {
                throw TooOld(failure);
            }
            prepared = true;
        }
        _ = TurnAsync(blocking);
    }

    public static FaultException TooOld(EntryPointNotFoundException failure) =>
        new(FaultReason.Unsupported, $"libvirt's client library on this host is too old ({failure.Message}). Version 7.2 or later is needed.", failure);

    // Its thread waits in poll(2) for as long as the process lives; libvirt has one loop per process.
    private static async Task TurnAsync(IBlockingCalls blocking)
    {
        await Task.Yield();
        await blocking.RunAsync(static () =>
        {
            while (LibvirtCalls.RunEventLoop() >= 0)
            {
                // Each turn serves what arrived.
            }
            return true;
        });
    }
}
