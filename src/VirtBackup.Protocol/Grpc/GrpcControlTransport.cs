using Grpc.Net.Client;
using VirtBackup.Protocol.Agent.V1;
using VirtBackup.Protocol.Transport;

namespace VirtBackup.Protocol.Grpc;

/// <summary>The control plane over a gRPC channel. The channel is the caller's to dispose.</summary>
public sealed class GrpcControlTransport(GrpcChannel channel, string peer) : IControlTransport
{
    private readonly AgentService.AgentServiceClient _client = new(channel);

    public IDuplex<ConnectRequest, ConnectResponse> Connect(CancellationToken cancellationToken) =>
        new GrpcDuplex<ConnectRequest, ConnectResponse>(_client.Connect(cancellationToken: cancellationToken), peer);

    public IAsyncEnumerable<ReadTaskOptionsResponse> ReadTaskOptionsAsync(ReadTaskOptionsRequest request, CancellationToken cancellationToken) =>
        GrpcCalls.StreamAsync(_client.ReadTaskOptions(request, cancellationToken: cancellationToken), peer, cancellationToken);

    public ValueTask<RenewCertificateResponse> RenewCertificateAsync(RenewCertificateRequest request, CancellationToken cancellationToken) =>
        GrpcCalls.UnaryAsync(_client.RenewCertificateAsync(request, cancellationToken: cancellationToken), peer, cancellationToken);
}
