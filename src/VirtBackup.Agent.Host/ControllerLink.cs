using System.Net.Security;
using Grpc.Net.Client;
using VirtBackup.Core;
using VirtBackup.Identity;

namespace VirtBackup.Agent.Host;

/// <summary>
/// The agent's two connections: control and data lie on channels of their own, so that a full data window never delays a
/// command.
/// </summary>
internal sealed class ControllerLink : IDisposable
{
    /// <summary>A manifest and its grant, or nodes of a map.</summary>
    private const int DataMessageBytesMax = 8 << 20;

    public ControllerLink(string endpoint, AgentKeyStore keys)
    {
        Control = Open(endpoint, keys, multipleConnections: false, Limits.ControlMessageBytesMax);
        Data = Open(endpoint, keys, multipleConnections: true, DataMessageBytesMax);
    }

    public GrpcChannel Control { get; }

    public GrpcChannel Data { get; }

    public void Dispose()
    {
        Control.Dispose();
        Data.Dispose();
    }

    private static GrpcChannel Open(string endpoint, AgentKeyStore keys, bool multipleConnections, int messageBytesMax) =>
        GrpcChannel.ForAddress($"https://{endpoint}", new GrpcChannelOptions
        {
            HttpHandler = new CertifiedConnections(keys, () => OpenConnections(keys.CreateClientOptions(), multipleConnections)),
            DisposeHttpClient = true,
            MaxReceiveMessageSize = messageBytesMax,
            MaxSendMessageSize = messageBytesMax,
        });

    private static SocketsHttpHandler OpenConnections(SslClientAuthenticationOptions tls, bool multipleConnections) => new()
    {
        SslOptions = tls,
        EnableMultipleHttp2Connections = multipleConnections,
        PooledConnectionIdleTimeout = TimeSpan.FromMinutes(5),
        KeepAlivePingDelay = TimeSpan.FromSeconds(20),
        KeepAlivePingTimeout = TimeSpan.FromSeconds(20),
        KeepAlivePingPolicy = HttpKeepAlivePingPolicy.WithActiveRequests,
        ConnectTimeout = TimeSpan.FromSeconds(15),
        UseProxy = false,
        // As large as the controller's: one fat link of 1 Gb/s and 40 ms.
        InitialHttp2StreamWindowSize = 4 << 20,
    };
}
