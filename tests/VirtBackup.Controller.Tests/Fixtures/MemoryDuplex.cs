using System.Threading.Channels;
using VirtBackup.Protocol.Transport;

namespace VirtBackup.Controller.Tests.Fixtures;

/// <summary>A stream both ways in memory: the test holds one end, the controller the other.</summary>
internal sealed class MemoryDuplex<TUp, TDown> : IServerDuplex<TUp, TDown>
{
    private readonly Channel<TUp> _up = Channel.CreateBounded<TUp>(64);
    private readonly Channel<TDown> _down = Channel.CreateBounded<TDown>(4096);

    public ChannelWriter<TUp> Up => _up.Writer;

    public ChannelReader<TDown> Down => _down.Reader;

    IAsyncEnumerable<TUp> IServerDuplex<TUp, TDown>.ReceiveAsync(CancellationToken cancellationToken) => _up.Reader.ReadAllAsync(cancellationToken);

    ValueTask IServerDuplex<TUp, TDown>.SendAsync(TDown message, CancellationToken cancellationToken) => _down.Writer.WriteAsync(message, cancellationToken);
}
