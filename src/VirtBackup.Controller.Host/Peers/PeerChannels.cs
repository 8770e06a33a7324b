using System.Net.Security;
using Grpc.Net.Client;
using VirtBackup.Core;
using VirtBackup.Identity;

namespace VirtBackup.Controller.Host.Peers;

/// <summary>Connections to other controllers, which take no side way: no proxy, no roots of the host's.</summary>
internal static class PeerChannels
{
    /// <summary>A slice of 64 KiB and its frame, or a page of a listing.</summary>
    private const int MessageBytesMax = 1 << 20;

    /// <summary>One connection, made when it is needed, and anew when the certificate was renewed.</summary>
    public static GrpcChannel Open(PeerKeyStore keys, string controller) =>
        GrpcChannel.ForAddress(ToUri(controller), new GrpcChannelOptions
        {
            HttpHandler = new CertifiedConnections(keys, () => CreateHandler(keys.CreateClientOptions())),
            DisposeHttpClient = true,
            MaxReceiveMessageSize = MessageBytesMax,
            MaxSendMessageSize = MessageBytesMax,
        });

    /// <summary>For the first call to a controller that only its token tells anything of.</summary>
    public static GrpcChannel OpenPinned(JoinPin pin, string controller, Action<ChainVerdict> refused) =>
        GrpcChannel.ForAddress(ToUri(controller), new GrpcChannelOptions
        {
            HttpHandler = CreateHandler(new SslClientAuthenticationOptions
            {
                RemoteCertificateValidationCallback = pin.ServerValidation(refused: refused),
                CertificateRevocationCheckMode = System.Security.Cryptography.X509Certificates.X509RevocationMode.NoCheck,
            }),
            DisposeHttpClient = true,
            MaxReceiveMessageSize = MessageBytesMax,
        });

    private static SocketsHttpHandler CreateHandler(SslClientAuthenticationOptions tls) => new()
    {
        SslOptions = tls,
        PooledConnectionIdleTimeout = TimeSpan.FromMinutes(5),
        KeepAlivePingDelay = TimeSpan.FromSeconds(20),
        KeepAlivePingTimeout = TimeSpan.FromSeconds(20),
        KeepAlivePingPolicy = HttpKeepAlivePingPolicy.WithActiveRequests,
        ConnectTimeout = TimeSpan.FromSeconds(15),
        UseProxy = false,
        // As large as a controller's; it grows with the round trip.
        InitialHttp2StreamWindowSize = 4 << 20,
    };

    private static Uri ToUri(string controller) =>
        Uri.TryCreate($"https://{controller}", UriKind.Absolute, out var uri) && uri is { AbsolutePath: "/", Query: "", Fragment: "", UserInfo: "" } && uri.Host.Length > 0 && controller.Contains(':', StringComparison.Ordinal)
            ? uri
            : throw new FaultException(FaultReason.InvalidArgument, $"'{controller}' is not the address of a controller: write it as host:port.");
}
