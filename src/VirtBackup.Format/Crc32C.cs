using System.Buffers.Binary;
using System.Numerics;

namespace VirtBackup.Format;

/// <summary>CRC-32C (Castagnoli, reflected, initial value and final XOR all ones: RFC 3720 section 12.1).</summary>
public static class Crc32C
{
    public static uint Compute(ReadOnlySpan<byte> source)
    {
        var crc = uint.MaxValue;
        while (source.Length >= sizeof(ulong))
        {
            crc = BitOperations.Crc32C(crc, BinaryPrimitives.ReadUInt64LittleEndian(source));
            source = source[sizeof(ulong)..];
        }
        foreach (var value in source)
        {
            crc = BitOperations.Crc32C(crc, value);
        }
        return ~crc;
    }
}
