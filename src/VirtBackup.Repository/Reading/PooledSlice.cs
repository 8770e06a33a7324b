using System.Buffers;
using VirtBackup.Core;

namespace VirtBackup.Repository.Reading;

/// <summary>
/// Some bytes of a pooled buffer that several slices share; the last one disposed gives it back. Dispose each slice once,
/// when its bytes are no longer used.
/// </summary>
public readonly struct PooledSlice : IDisposable, IEquatable<PooledSlice>
{
    private readonly SharedBuffer _owner;

    internal PooledSlice(SharedBuffer owner, ReadOnlyMemory<byte> memory)
    {
        _owner = owner;
        Memory = memory;
        owner.Lend();
    }

    /// <summary>At most <see cref="Limits.SliceBytesMax"/> bytes.</summary>
    public ReadOnlyMemory<byte> Memory { get; }

    public void Dispose() => _owner?.Return();

    public bool Equals(PooledSlice other) => ReferenceEquals(_owner, other._owner) && Memory.Equals(other.Memory);

    public override bool Equals(object? obj) => obj is PooledSlice other && Equals(other);

    public override int GetHashCode() => Memory.GetHashCode();

    public static bool operator ==(PooledSlice left, PooledSlice right) => left.Equals(right);
    public static bool operator !=(PooledSlice left, PooledSlice right) => !left.Equals(right);
}

/// <summary>A pooled array with a count of its users, the creator included.</summary>
internal sealed class SharedBuffer(int bytes) : IDisposable
{
    /// <summary>Larger ones all have the same room: the pool keeps arrays of each size apart.</summary>
    private const int SmallBytesMax = 1 << 20;

    // As many as were in use at once: the shared pool would keep one for every thread and processor that gave one back.
    private static readonly ArrayPool<byte> Pool = ArrayPool<byte>.Create(RecordStream.ReadBytesMax, 16);

    private readonly byte[] _array = Pool.Rent(RoomFor(bytes));
    private int _users = 1;

    public Memory<byte> Memory => _array.AsMemory(0, bytes);

    public void Lend() => Interlocked.Increment(ref _users);

    public void Return()
    {
        var left = Interlocked.Decrement(ref _users);
        Check.That(left >= 0);
        if (left == 0)
        {
            Pool.Return(_array);
        }
    }

    /// <summary>The creator's own <see cref="Return"/>.</summary>
    public void Dispose() => Return();

    private static int RoomFor(int bytes) => bytes <= SmallBytesMax ? bytes : Math.Max(bytes, RecordStream.ReadBytesMax);
}
