using System.Runtime.InteropServices;
using System.Text;

namespace VirtBackup.Hypervisors.Libvirt.Native;

/// <summary>Integers among libvirt's typed parameters (virTypedParameter): a name of 80 bytes, a type, a value of 8 bytes.</summary>
internal static class TypedNumbers
{
    private const int NameBytes = 80, TypeAt = 80, ValueAt = 88, Size = 96;
    private const int SignedInteger = 3, UnsignedInteger = 4;

    /// <summary>More than any call here returns.</summary>
    private const int CountMax = 256;

    /// <summary>A device's counters. To be used on the thread of the call.</summary>
    public static IReadOnlyDictionary<string, long> ReadBlockStats(DomainHandle domain, string disk)
    {
        var count = 0;
        LibvirtValues.Require(LibvirtCalls.GetBlockStats(domain, disk, 0, ref count, 0));
        count = Math.Clamp(count, 0, CountMax);
        var memory = Marshal.AllocHGlobal(Math.Max(1, count) * Size);
        try
        {
            LibvirtValues.Require(LibvirtCalls.GetBlockStats(domain, disk, memory, ref count, 0));
            var numbers = new Dictionary<string, long>(StringComparer.Ordinal);
            for (var at = memory; at < memory + (count * Size); at += Size)
            {
                if (Marshal.ReadInt32(at, TypeAt) is SignedInteger or UnsignedInteger)
                {
                    numbers[NameAt(at)] = Marshal.ReadInt64(at, ValueAt);
                }
            }
            return numbers;
        }
        finally
        {
            Marshal.FreeHGlobal(memory);
        }
    }

    private static string NameAt(nint at)
    {
        var bytes = new byte[NameBytes];
        Marshal.Copy(at, bytes, 0, NameBytes);
        var end = Array.IndexOf(bytes, (byte)0);
        return Encoding.UTF8.GetString(bytes, 0, end < 0 ? NameBytes : end);
    }
}
