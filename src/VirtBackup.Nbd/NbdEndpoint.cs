using System.Net;
using System.Net.Sockets;
using VirtBackup.Core;

namespace VirtBackup.Nbd;

/// <summary>Where an NBD server listens: a Unix socket, or a host and TCP port.</summary>
public sealed record NbdEndpoint
{
    /// <summary>The port that IANA assigned to NBD.</summary>
    public const int DefaultPort = 10809;

    private NbdEndpoint(string? path, string? host, int port) => (SocketPath, Host, Port) = (path, host, port);

    /// <summary>Path of the Unix socket; null for TCP.</summary>
    public string? SocketPath { get; }

    /// <summary>Host name or address; null for a Unix socket.</summary>
    public string? Host { get; }

    /// <summary>TCP port; 0 for a Unix socket.</summary>
    public int Port { get; }

    public static NbdEndpoint Unix(string path)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        return new NbdEndpoint(path, null, 0);
    }

    public static NbdEndpoint Tcp(string host, int port = DefaultPort)
    {
        ArgumentException.ThrowIfNullOrEmpty(host);
        ArgumentOutOfRangeException.ThrowIfLessThan(port, 1);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(port, IPEndPoint.MaxPort);
        return new NbdEndpoint(null, host, port);
    }

    public override string ToString() => SocketPath ?? $"{Host}:{Port}";

    /// <exception cref="FaultException"><see cref="FaultReason.Unavailable"/>: nobody listens there.</exception>
    internal async Task<Stream> ConnectAsync(CancellationToken cancellationToken)
    {
        Socket? socket = null;
        try
        {
            if (SocketPath is not null)
            {
                // Throws for a path that does not fit a socket address (108 bytes on Linux).
                var address = new UnixDomainSocketEndPoint(SocketPath);
                socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
                await socket.ConnectAsync(address, cancellationToken);
            }
            else
            {
                socket = new Socket(SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
                await socket.ConnectAsync(Host!, Port, cancellationToken);
            }
            return new NetworkStream(socket, ownsSocket: true);
        }
        catch (Exception failure)
        {
            socket?.Dispose();
            throw failure switch
            {
                SocketException => new FaultException(FaultReason.Unavailable, $"No NBD server answers at {this}: {failure.Message}.", failure),
                ArgumentException => new FaultException(FaultReason.InvalidArgument, $"The socket path {this} cannot be used: {failure.Message}", failure),
                _ => failure,
            };
        }
    }
}
