using System.Runtime.CompilerServices;
using Grpc.Core;
using VirtBackup.Core;
using VirtBackup.Protocol.Transport;

namespace VirtBackup.Controller.Grpc;

/// <summary>The serving end of a gRPC call with streams both ways.</summary>
/// <param name="isFollowed">
/// Whether more is sent behind a message without waiting for the peer: then most of them are held back until the next one, because
/// waking the connection costs more than sending a slice. Null: none.
/// </param>
internal sealed class GrpcServerDuplex<TReceive, TSend>(IAsyncStreamReader<TReceive> reader, IServerStreamWriter<TSend> writer, Func<TSend, bool>? isFollowed = null)
    : IServerDuplex<TReceive, TSend>
{
    private const int MessagesPerFlush = 4;

    private static readonly WriteOptions Gathered = new(WriteFlags.BufferHint);
    private static readonly WriteOptions Flushed = new();

    private int _sent;

    public async IAsyncEnumerable<TReceive> ReceiveAsync([EnumeratorCancellation] CancellationToken cancellationToken)
    {
        while (await MoveNextAsync(cancellationToken))
        {
            yield return reader.Current;
        }
    }

    public async ValueTask SendAsync(TSend message, CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        try
        {
            // A cancelled write resets the whole call, and the peer would never learn why it ended: the write is left
            // to the transport instead, and only the waiting ends.
            writer.WriteOptions = isFollowed?.Invoke(message) == true && ++_sent % MessagesPerFlush != 0 ? Gathered : Flushed;
            await writer.WriteAsync(message, CancellationToken.None).WaitAsync(cancellationToken);
        }
        catch (Exception broken) when (broken is InvalidOperationException or IOException or RpcException)
        {
            cancellationToken.ThrowIfCancellationRequested();
            throw Broken(broken);
        }
    }

    private async ValueTask<bool> MoveNextAsync(CancellationToken cancellationToken)
    {
        try
        {
            return await reader.MoveNext(cancellationToken);
        }
        catch (Exception broken) when (broken is InvalidOperationException or IOException || (broken is RpcException { StatusCode: StatusCode.Cancelled or StatusCode.Unavailable }))
        {
            cancellationToken.ThrowIfCancellationRequested();
            throw Broken(broken);
        }
    }

    private static FaultException Broken(Exception cause) => new(FaultReason.Unavailable, "The connection was closed.", cause);
}
