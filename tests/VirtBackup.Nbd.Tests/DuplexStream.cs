using System.IO.Pipelines;

namespace VirtBackup.Nbd.Tests;

/// <summary>One end of a connection in memory: no sockets, no delays, back pressure after 1 MiB unless told otherwise.</summary>
internal sealed class DuplexStream : Stream
{
    private readonly Stream _input;
    private readonly Stream _output;
    private DuplexStream _peer = null!;
    private long _bytesRead;
    private long _bytesWritten;
    private long _waitingAt = -1;

    private DuplexStream(Pipe input, Pipe output) => (_input, _output) = (input.Reader.AsStream(), output.Writer.AsStream());

    public static (DuplexStream Near, DuplexStream Far) CreatePair(int bytesMax = 1 << 20)
    {
        var options = new PipeOptions(pauseWriterThreshold: bytesMax, resumeWriterThreshold: bytesMax / 2, useSynchronizationContext: false);
        Pipe up = new(options), down = new(options);
        DuplexStream near = new(down, up), far = new(up, down);
        (near._peer, far._peer) = (far, near);
        return (near, far);
    }

    public override bool CanRead => true;
    public override bool CanWrite => true;
    public override bool CanSeek => false;
    public override long Length => throw new NotSupportedException();
    public override long Position { get => throw new NotSupportedException(); set => throw new NotSupportedException(); }

    private long WaitingAt => Volatile.Read(ref _waitingAt);

    /// <summary>True when the other end has read all that was written here, and waits in a read for more.</summary>
    public bool IsDrained => _peer.WaitingAt == _bytesWritten;

    public override async ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default)
    {
        var reading = _input.ReadAsync(buffer, cancellationToken);
        if (!reading.IsCompleted)
        {
            Volatile.Write(ref _waitingAt, _bytesRead);
        }
        var count = await reading;
        _bytesRead += count;
        return count;
    }

    public override async ValueTask WriteAsync(ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default)
    {
        _bytesWritten += buffer.Length;
        await _output.WriteAsync(buffer, cancellationToken);
        await _output.FlushAsync(cancellationToken);
    }

    public override Task FlushAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public override void Flush() => throw new NotSupportedException();
    public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();
    public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();
    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();
    public override void SetLength(long value) => throw new NotSupportedException();

    /// <summary>The other end reads what was sent, and then the end of the stream.</summary>
    public void CloseSending() => _output.Dispose();

    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            _input.Dispose();
            _output.Dispose();
        }
        base.Dispose(disposing);
    }
}
