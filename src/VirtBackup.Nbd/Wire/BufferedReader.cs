using System.Runtime.CompilerServices;

namespace VirtBackup.Nbd.Wire;

/// <summary>Reads headers through a small buffer and long payloads straight into their destination. For one reader.</summary>
internal sealed class BufferedReader(Stream stream)
{
    private readonly byte[] _buffer = new byte[16 << 10];
    private int _start;
    private int _end;

    /// <summary>True when nothing of the next message has been read yet.</summary>
    public bool IsEmpty => _start == _end;

    /// <summary>Fills the buffer if it is empty; false at the end of the stream.</summary>
    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder<>))]
    public async ValueTask<bool> WaitAsync(CancellationToken cancellationToken)
    {
        if (IsEmpty)
        {
            (_start, _end) = (0, 0);
            _end = await stream.ReadAsync(_buffer, cancellationToken);
        }
        return !IsEmpty;
    }

    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder))]
    public async ValueTask ReadExactlyAsync(Memory<byte> destination, CancellationToken cancellationToken)
    {
        while (destination.Length > 0)
        {
            destination = destination[await ReadSomeAsync(destination, cancellationToken)..];
        }
    }

    /// <summary>At least one byte.</summary>
    /// <exception cref="EndOfStreamException"/>
    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder<>))]
    public async ValueTask<int> ReadSomeAsync(Memory<byte> destination, CancellationToken cancellationToken)
    {
        if (IsEmpty && destination.Length >= _buffer.Length)
        {
            var count = await stream.ReadAsync(destination, cancellationToken);
            return count > 0 ? count : throw new EndOfStreamException();
        }
        if (!await WaitAsync(cancellationToken))
        {
            throw new EndOfStreamException();
        }
        var copied = Math.Min(destination.Length, _end - _start);
        _buffer.AsSpan(_start, copied).CopyTo(destination.Span);
        _start += copied;
        return copied;
    }
}
