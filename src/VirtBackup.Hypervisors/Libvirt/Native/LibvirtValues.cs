using System.Runtime.InteropServices;

namespace VirtBackup.Hypervisors.Libvirt.Native;

/// <summary>Turns what calls return into values, or into the failure they stand for. To be used on the thread of the call.</summary>
internal static class LibvirtValues
{
    /// <summary>Longest document taken from libvirt, bytes.</summary>
    private const int TextBytesMax = 4 << 20;

    public static int Require(int result) => result >= 0 ? result : throw LibvirtFailure.Last();

    public static T Require<T>(T handle)
        where T : LibvirtHandle
    {
        if (!handle.IsInvalid)
        {
            return handle;
        }
        handle.Dispose();
        throw LibvirtFailure.Last();
    }

    /// <summary>Takes over a string that libvirt allocated.</summary>
    public static string TakeText(nint text)
    {
        if (text == 0)
        {
            throw LibvirtFailure.Last();
        }
        try
        {
            var length = 0;
            while (Marshal.ReadByte(text, length) != 0)
            {
                if (++length > TextBytesMax)
                {
                    throw Core.FaultException.Malformed($"libvirt sent a document of more than {TextBytesMax >> 20} MiB.");
                }
            }
            return Marshal.PtrToStringUTF8(text, length);
        }
        finally
        {
            LibvirtCalls.Free(text);
        }
    }

    /// <summary>Takes over an array of references that libvirt allocated.</summary>
    public static List<T> TakeAll<T>(int count, nint array)
        where T : LibvirtHandle, new()
    {
        Require(count);
        var handles = new List<T>(count);
        for (var i = 0; i < count; i++)
        {
            var handle = new T();
            handle.Adopt(Marshal.ReadIntPtr(array, i * nint.Size));
            handles.Add(handle);
        }
        LibvirtCalls.Free(array);
        return handles;
    }
}
