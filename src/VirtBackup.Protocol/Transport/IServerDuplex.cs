namespace VirtBackup.Protocol.Transport;

/// <summary>The serving end of a stream that flows both ways; the same rules as <see cref="IDuplex{TSend,TReceive}"/>.</summary>
public interface IServerDuplex<out TReceive, in TSend>
{
    IAsyncEnumerable<TReceive> ReceiveAsync(CancellationToken cancellationToken);

    ValueTask SendAsync(TSend message, CancellationToken cancellationToken);
}
