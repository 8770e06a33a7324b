using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Authentication;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using Microsoft.Extensions.Time.Testing;
using VirtBackup.Core;

// File modes are POSIX's.
[assembly: System.Runtime.Versioning.SupportedOSPlatform("linux")]

namespace VirtBackup.Identity.Tests;

/// <summary>An authority, a clock and a server certificate for "localhost" and 127.0.0.1.</summary>
internal sealed class Installation : IDisposable
{
    public Installation()
    {
        Time = new FakeTimeProvider(new DateTimeOffset(2031, 5, 4, 3, 2, 1, TimeSpan.Zero));
        Authority = CertificateAuthority.Create(SystemEntropy.Instance, Time);
        Server = Authority.IssueServer(["localhost"], [IPAddress.Loopback]);
        Policy = new ChainPolicy(Authority.Certificate, Time, Revoked);
    }

    public FakeTimeProvider Time { get; }
    public CertificateAuthority Authority { get; }
    public X509Certificate2 Server { get; }
    public MemoryRevocationList Revoked { get; } = new();
    public ChainPolicy Policy { get; }

    public X509Certificate2 IssueClient(PeerRole role = PeerRole.Agent, string name = "host-1.example")
    {
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        using var certificate = Authority.IssueClient(SigningRequest.Create(key), role, name);
        return certificate.CopyWithPrivateKey(key);
    }

    public void Dispose()
    {
        Server.Dispose();
        Authority.Dispose();
    }
}

/// <summary>What both sides of one real TLS handshake over loopback concluded.</summary>
internal sealed record Handshake(bool Completed, X509Certificate2? SeenByServer)
{
    public static async Task<Handshake> RunAsync(
        X509Certificate2 server, SslClientAuthenticationOptions client, RemoteCertificateValidationCallback judgeClient)
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        using var calling = new TcpClient();
        var accepting = listener.AcceptTcpClientAsync();
        await calling.ConnectAsync((IPEndPoint)listener.LocalEndpoint);
        using var accepted = await accepting;
        await using var serverStream = new SslStream(accepted.GetStream());
        await using var clientStream = new SslStream(calling.GetStream());
        var serving = ServeAsync(serverStream, server, judgeClient);
        var ok = true;
        try
        {
            await clientStream.AuthenticateAsClientAsync(client);
            await clientStream.WriteAsync(new byte[] { 42 });
            // TLS 1.3 clients finish before the server has judged them: the echo is the proof.
            ok = await clientStream.ReadAsync(new byte[1]) == 1;
        }
        catch (Exception refused) when (refused is AuthenticationException or IOException)
        {
            ok = false;
            calling.Close();
        }
        var (served, seen) = await serving;
        return new Handshake(ok && served, seen);
    }

    public static SslClientAuthenticationOptions Client(
        X509Certificate2? certificate, RemoteCertificateValidationCallback judgeServer, string host = "localhost") => new()
        {
            TargetHost = host,
            LocalCertificateSelectionCallback = certificate is null ? null : (_, _, _, _, _) => certificate,
            RemoteCertificateValidationCallback = judgeServer,
        };

    private static async Task<(bool Served, X509Certificate2? Seen)> ServeAsync(SslStream stream, X509Certificate2 server, RemoteCertificateValidationCallback judge)
    {
        try
        {
            await stream.AuthenticateAsServerAsync(new SslServerAuthenticationOptions
            {
                ServerCertificate = server,
                ClientCertificateRequired = true,
                RemoteCertificateValidationCallback = judge,
            });
            var echo = new byte[1];
            await stream.ReadExactlyAsync(echo);
            await stream.WriteAsync(echo);
            return (true, stream.RemoteCertificate is null ? null : new X509Certificate2(stream.RemoteCertificate));
        }
        catch (Exception refused) when (refused is AuthenticationException or IOException)
        {
            await stream.DisposeAsync();
            return (false, null);
        }
    }
}

/// <summary>A folder of this test's own, removed at its end.</summary>
internal sealed class TestFolder : IDisposable
{
    public string Path { get; } = Directory.CreateTempSubdirectory("virtbackup-identity-").FullName;

    public string this[string name] => System.IO.Path.Combine(Path, name);

    public void Dispose() => Directory.Delete(Path, recursive: true);
}
