using System.Runtime.CompilerServices;
using Grpc.Core;
using VirtBackup.Protocol.Transport;

namespace VirtBackup.Protocol.Grpc;

/// <summary>A gRPC call with streams both ways as an <see cref="IDuplex{TSend,TReceive}"/>.</summary>
public sealed class GrpcDuplex<TSend, TReceive>(AsyncDuplexStreamingCall<TSend, TReceive> call, string peer) : IDuplex<TSend, TReceive>
{
    private static readonly WriteOptions Gathered = new(WriteFlags.BufferHint);
    private static readonly WriteOptions Flushed = new();

    public ValueTask SendAsync(TSend message, CancellationToken cancellationToken) => WriteAsync(message, Flushed, cancellationToken);

    public ValueTask GatherAsync(TSend message, CancellationToken cancellationToken) => WriteAsync(message, Gathered, cancellationToken);

    public async ValueTask CompleteAsync()
    {
        try
        {
            await call.RequestStream.CompleteAsync();
        }
        catch (RpcException exception)
        {
            throw FaultStatus.FromRpc(exception, peer);
        }
        catch (Exception exception) when (FaultStatus.IsBrokenConnection(exception))
        {
            throw FaultStatus.FromBrokenConnection(exception, peer);
        }
        catch (InvalidOperationException exception)
        {
            throw new Core.FaultException(Core.FaultReason.Unavailable, $"The stream to {peer} has ended.", exception);
        }
    }

    public IAsyncEnumerable<TReceive> ReceiveAsync(CancellationToken cancellationToken) =>
        GrpcCalls.ReadAllAsync(call.ResponseStream, peer, cancellationToken);

    public ValueTask DisposeAsync()
    {
        call.Dispose();
        return ValueTask.CompletedTask;
    }

    private async ValueTask WriteAsync(TSend message, WriteOptions options, CancellationToken cancellationToken)
    {
        try
        {
            call.RequestStream.WriteOptions = options;
            await call.RequestStream.WriteAsync(message, cancellationToken);
        }
        catch (RpcException exception)
        {
            cancellationToken.ThrowIfCancellationRequested();
            throw FaultStatus.FromRpc(exception, peer);
        }
        catch (Exception exception) when (FaultStatus.IsBrokenConnection(exception))
        {
            cancellationToken.ThrowIfCancellationRequested();
            throw FaultStatus.FromBrokenConnection(exception, peer);
        }
        catch (InvalidOperationException exception)
        {
            // The call has ended; the reading side tells why.
            throw new Core.FaultException(Core.FaultReason.Unavailable, $"The stream to {peer} has ended.", exception);
        }
    }
}

/// <summary>Turns gRPC's failures into the product's at the edge, so that nothing above knows gRPC.</summary>
public static class GrpcCalls
{
    public static async ValueTask<T> UnaryAsync<T>(AsyncUnaryCall<T> call, string peer, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(call);
        try
        {
            using (call)
            {
                return await call.ResponseAsync;
            }
        }
        catch (RpcException exception)
        {
            cancellationToken.ThrowIfCancellationRequested();
            throw FaultStatus.FromRpc(exception, peer);
        }
        catch (Exception exception) when (FaultStatus.IsBrokenConnection(exception))
        {
            cancellationToken.ThrowIfCancellationRequested();
            throw FaultStatus.FromBrokenConnection(exception, peer);
        }
    }

    public static async IAsyncEnumerable<T> StreamAsync<T>(
        AsyncServerStreamingCall<T> call, string peer, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(call);
        using (call)
        {
            await foreach (var message in ReadAllAsync(call.ResponseStream, peer, cancellationToken))
            {
                yield return message;
            }
        }
    }

    internal static async IAsyncEnumerable<T> ReadAllAsync<T>(
        IAsyncStreamReader<T> reader, string peer, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        while (true)
        {
            try
            {
                if (!await reader.MoveNext(cancellationToken))
                {
                    yield break;
                }
            }
            catch (RpcException exception)
            {
                cancellationToken.ThrowIfCancellationRequested();
                throw FaultStatus.FromRpc(exception, peer);
            }
            catch (Exception exception) when (FaultStatus.IsBrokenConnection(exception))
            {
                cancellationToken.ThrowIfCancellationRequested();
                throw FaultStatus.FromBrokenConnection(exception, peer);
            }
            yield return reader.Current;
        }
    }
}
