using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Authentication;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using VirtBackup.Testing.Lab;
using VirtBackup.Testing.Links;

namespace VirtBackup.Proofs.Replication.WanSpeed;

/// <summary>
/// What replication is measured against: two programs, one at each end of a link, and one TLS 1.3 stream of bytes between them with
/// no protocol at all. Timed from the first packet until the receiver has said that all of them are there.
/// </summary>
internal static class TlsTransfer
{
    public const string Receive = "tls-receive";
    public const string Send = "tls-send";
    private const string Listening = "listening at ";
    private const string Took = "seconds ";
    private const int BlockBytes = 256 << 10;

    /// <returns>Seconds for that many bytes from one site to another.</returns>
    public static async Task<double> MeasureAsync(NetworkSite from, NetworkSite to, IPAddress address, long bytes, CancellationToken cancellationToken)
    {
        await using var receiver = to.Start(Environment.ProcessPath!, [Receive, $"{address}", $"{bytes}"]);
        var port = (await receiver.WaitForLineAsync(Listening, cancellationToken: cancellationToken))[Listening.Length..];
        await using var sender = from.Start(Environment.ProcessPath!, [Send, $"{address}", port, $"{bytes}"]);
        var line = await sender.WaitForLineAsync(Took, TimeSpan.FromMinutes(10), cancellationToken);
        return double.Parse(line[Took.Length..], CultureInfo.InvariantCulture);
    }

    /// <summary>This program as one of the two ends.</summary>
    public static async Task<int> ServeAsync(string[] arguments)
    {
        var address = IPAddress.Parse(arguments[1]);
        if (arguments[0] == Receive) await ReceiveAsync(address, long.Parse(arguments[2], CultureInfo.InvariantCulture));
        else await SendAsync(new IPEndPoint(address, int.Parse(arguments[2], CultureInfo.InvariantCulture)), long.Parse(arguments[3], CultureInfo.InvariantCulture));
        return 0;
    }

    private static async Task ReceiveAsync(IPAddress address, long bytes)
    {
        using var listener = new TcpListener(address, 0);
        listener.Start();
        Console.WriteLine($"{Listening}{((IPEndPoint)listener.LocalEndpoint).Port}");
        using var client = await listener.AcceptTcpClientAsync();
        client.NoDelay = true;
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var now = DateTimeOffset.UtcNow;
        using var made = new CertificateRequest("CN=baseline", key, HashAlgorithmName.SHA256).CreateSelfSigned(now.AddDays(-1), now.AddDays(1));
        using var certificate = X509CertificateLoader.LoadPkcs12(made.Export(X509ContentType.Pfx), null);
        await using var stream = new SslStream(client.GetStream());
        await stream.AuthenticateAsServerAsync(new SslServerAuthenticationOptions { ServerCertificate = certificate, EnabledSslProtocols = SslProtocols.Tls13 });
        var block = new byte[BlockBytes];
        while (bytes > 0)
        {
            var read = await stream.ReadAsync(block);
            if (read == 0) throw new LabException("The sender hung up.");
            bytes -= read;
        }
        await stream.WriteAsync(block.AsMemory(0, 1));
        // Until the sender has read it, and hangs up.
        _ = await stream.ReadAtLeastAsync(block.AsMemory(0, 1), 1, throwOnEndOfStream: false);
    }

    private static async Task SendAsync(IPEndPoint address, long bytes)
    {
        var block = RandomNumberGenerator.GetBytes(BlockBytes);
        var clock = Stopwatch.StartNew();
        using var client = new TcpClient();
        await client.ConnectAsync(address);
        client.NoDelay = true;
#pragma warning disable CA5359 // The other end is this same program, a second ago.
        await using var stream = new SslStream(client.GetStream(), leaveInnerStreamOpen: false, static (_, _, _, _) => true);
#pragma warning restore CA5359
        await stream.AuthenticateAsClientAsync(new SslClientAuthenticationOptions { TargetHost = "baseline", EnabledSslProtocols = SslProtocols.Tls13 });
        for (var left = bytes; left > 0; left -= BlockBytes) await stream.WriteAsync(block.AsMemory(0, (int)Math.Min(left, BlockBytes)));
        if (await stream.ReadAsync(block.AsMemory(0, 1)) == 0) throw new LabException("The receiver hung up.");
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{Took}{clock.Elapsed.TotalSeconds:0.000}"));
    }
}
