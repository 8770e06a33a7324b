using System.Buffers.Binary;
using System.Security.Cryptography;
using VirtBackup.Core;

namespace VirtBackup.Agent.Auditing;

/// <summary>
/// An order of 0 … count − 1 that only the key foretells: a Feistel network over the next power of four, walked on until it
/// comes out below the count. It needs no memory, and every number comes exactly once.
/// </summary>
internal sealed class SpanOrder
{
    // Four suffice against whoever may ask for all numbers; few bits a half mix worse.
    private const int Rounds = 8;

    private readonly byte[] _key;
    private readonly long _count;
    private readonly int _halfBits;

    public SpanOrder(Id32 key, long count)
    {
        Check.That(count > 0);
        (_key, _count) = (key.ToArray(), count);
        _halfBits = 1;
        while (1L << (2 * _halfBits) < count)
        {
            _halfBits++;
        }
    }

    /// <summary>The number at <paramref name="position"/>, which is below the count.</summary>
    public long At(long position)
    {
        Check.That(position >= 0 && position < _count);
        var value = position;
        do
        {
            value = Mix(value);
        }
        while (value >= _count);
        return value;
    }

    private long Mix(long value)
    {
        var mask = (1L << _halfBits) - 1;
        var (left, right) = (value >> _halfBits, value & mask);
        Span<byte> input = stackalloc byte[1 + sizeof(long)];
        Span<byte> output = stackalloc byte[HMACSHA256.HashSizeInBytes];
        for (byte round = 0; round < Rounds; round++)
        {
            input[0] = round;
            BinaryPrimitives.WriteInt64LittleEndian(input[1..], right);
            HMACSHA256.HashData(_key, input, output);
            (left, right) = (right, left ^ (BinaryPrimitives.ReadInt64LittleEndian(output) & mask));
        }
        return (left << _halfBits) | right;
    }
}
