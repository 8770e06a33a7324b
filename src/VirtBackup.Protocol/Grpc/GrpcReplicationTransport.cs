using Grpc.Net.Client;
using VirtBackup.Protocol.Replication.V1;
using VirtBackup.Protocol.Transport;

namespace VirtBackup.Protocol.Grpc;

/// <summary>The replication service over a gRPC channel, which this object owns.</summary>
public sealed class GrpcReplicationTransport(GrpcChannel channel, string peer) : IReplicationTransport
{
    private readonly ReplicationService.ReplicationServiceClient _client = new(channel);

    public IDuplex<Ask, Answer> Pull(CancellationToken cancellationToken) =>
        new GrpcDuplex<Ask, Answer>(_client.Pull(cancellationToken: cancellationToken), peer);

    public IDuplex<Answer, Ask> Offer(CancellationToken cancellationToken) =>
        new GrpcDuplex<Answer, Ask>(_client.Offer(cancellationToken: cancellationToken), peer);

    public ValueTask DisposeAsync()
    {
        channel.Dispose();
        return ValueTask.CompletedTask;
    }
}
