using System.Net.Security;
using Grpc.Net.Client;
using VirtBackup.Identity;

namespace VirtBackup.Agent.Host;

/// <summary>
/// The agent's two connections: control and data lie on channels of their own, so that a full data window never delays a
/// command.
/// </summary>
internal sealed class ControllerLink : IDisposable
{
    public ControllerLink(string endpoint, AgentKeyStore keys)
    {
        Control = Open(endpoint, keys.CreateClientOptions(), multipleConnections: false);
        Data = Open(endpoint, keys.CreateClientOptions(), multipleConnections: true);
    }

    public GrpcChannel Control { get; }

    public GrpcChannel Data { get; }

    public void Dispose()
    {
        Control.Dispose();
        Data.Dispose();
    }

    private static GrpcChannel Open(string endpoint, SslClientAuthenticationOptions tls, bool multipleConnections)
    {
        var handler = new SocketsHttpHandler
        {
            SslOptions = tls,
            EnableMultipleHttp2Connections = multipleConnections,
            PooledConnectionIdleTimeout = Timeout.InfiniteTimeSpan,
            KeepAlivePingDelay = TimeSpan.FromSeconds(20),
            KeepAlivePingTimeout = TimeSpan.FromSeconds(20),
            KeepAlivePingPolicy = HttpKeepAlivePingPolicy.WithActiveRequests,
            ConnectTimeout = TimeSpan.FromSeconds(15),
            UseProxy = false,
            // As large as the controller's: one fat link of 1 Gb/s and 40 ms.
            InitialHttp2StreamWindowSize = 4 << 20,
        };
        return GrpcChannel.ForAddress($"https://{endpoint}", new GrpcChannelOptions
        {
            HttpHandler = handler,
            DisposeHttpClient = true,
            MaxReceiveMessageSize = 8 << 20,
            MaxSendMessageSize = 8 << 20,
        });
    }
}
