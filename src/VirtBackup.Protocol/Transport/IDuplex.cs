namespace VirtBackup.Protocol.Transport;

/// <summary>
/// The caller's end of a stream that flows both ways. One writer and one reader at a time, each in a loop of its own:
/// a single loop that does both deadlocks when both windows are full. Failures arrive as
/// <see cref="Core.FaultException"/>. Disposing breaks the stream.
/// </summary>
public interface IDuplex<in TSend, out TReceive> : IAsyncDisposable
{
    /// <summary>Waits while the peer's window is full. The message may be reused when the call returns.</summary>
    ValueTask SendAsync(TSend message, CancellationToken cancellationToken);

    /// <summary>
    /// As <see cref="SendAsync"/>, but the transport may hold the message back until the next <see cref="SendAsync"/>, which
    /// must follow without waiting for the peer: waking the connection costs more than sending a small message.
    /// </summary>
    ValueTask GatherAsync(TSend message, CancellationToken cancellationToken) => SendAsync(message, cancellationToken);

    /// <summary>Says that nothing more will be sent.</summary>
    ValueTask CompleteAsync();

    /// <summary>Messages until the peer ends the stream.</summary>
    IAsyncEnumerable<TReceive> ReceiveAsync(CancellationToken cancellationToken);
}
