using System.Runtime.CompilerServices;
using Grpc.Core;
using VirtBackup.Core;
using VirtBackup.Protocol.Transport;

namespace VirtBackup.Controller.Grpc;

/// <summary>The serving end of a gRPC call with streams both ways.</summary>
internal sealed class GrpcServerDuplex<TReceive, TSend>(IAsyncStreamReader<TReceive> reader, IServerStreamWriter<TSend> writer) : IServerDuplex<TReceive, TSend>
{
    public async IAsyncEnumerable<TReceive> ReceiveAsync([EnumeratorCancellation] CancellationToken cancellationToken)
    {
        while (await MoveNextAsync(cancellationToken))
        {
            yield return reader.Current;
        }
    }

    public async ValueTask SendAsync(TSend message, CancellationToken cancellationToken)
    {
        try
        {
            await writer.WriteAsync(message, cancellationToken);
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
