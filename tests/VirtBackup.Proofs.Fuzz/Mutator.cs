using System.Buffers.Binary;

namespace VirtBackup.Proofs.Fuzz;

/// <summary>Damages bytes as devices, networks and adversaries do.</summary>
internal static class Mutator
{
    private const int EditsMax = 4;
    private const int LengthMax = 1 << 16;

    private static readonly long[] Edges = [0, 1, -1, 2, 127, 128, 255, 256, 32767, 32768, 65535, 65536, int.MaxValue, int.MinValue, uint.MaxValue, long.MaxValue, long.MinValue];

    public static byte[] Mutate(byte[] source, IReadOnlyList<byte[]> others, Random random)
    {
        var bytes = source;
        for (var edits = 1 + random.Next(EditsMax); edits > 0; edits--)
        {
            bytes = Edit(bytes, others, random);
        }
        return bytes.Length > LengthMax ? bytes[..LengthMax] : bytes;
    }

    private static byte[] Edit(byte[] source, IReadOnlyList<byte[]> others, Random random)
    {
        var at = random.Next(source.Length + 1);
        var length = Math.Min(source.Length - at, 1 << random.Next(8));
        var copy = source.ToArray();
        switch (random.Next(9))
        {
            case 0 when at < copy.Length:
                copy[at] ^= (byte)(1 << random.Next(8));
                return copy;
            case 1 when at < copy.Length:
                copy[at] = (byte)random.Next(256);
                return copy;
            case 2:
                copy.AsSpan(at, length).Fill((byte)(random.Next(2) * 255));
                return copy;
            case 3:
                return copy[..at];
            case 4:
                return [.. copy[..at], .. new byte[1 << random.Next(8)], .. copy[at..]];
            case 5:
                // The same part twice.
                return [.. copy[..(at + length)], .. copy[at..]];
            case 6:
                return [.. copy[..at], .. copy[(at + length)..]];
            case 7:
                return WriteNumber(copy, at, Edges[random.Next(Edges.Length)] + random.Next(-1, 2), 1 << random.Next(4), random.Next(2) == 0);
            default:
                var other = others[random.Next(others.Count)];
                var from = random.Next(other.Length + 1);
                return [.. copy[..at], .. other[from..Math.Min(other.Length, from + (1 << random.Next(8)))], .. copy[(at + length)..]];
        }
    }

    private static byte[] WriteNumber(byte[] bytes, int at, long value, int size, bool isLittle)
    {
        if (at + size > bytes.Length)
        {
            return bytes;
        }
        Span<byte> number = stackalloc byte[8];
        if (isLittle)
        {
            BinaryPrimitives.WriteInt64LittleEndian(number, value);
            number[..size].CopyTo(bytes.AsSpan(at));
        }
        else
        {
            BinaryPrimitives.WriteInt64BigEndian(number, value);
            number[^size..].CopyTo(bytes.AsSpan(at));
        }
        return bytes;
    }
}
