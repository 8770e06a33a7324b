using System.Buffers.Binary;
using System.Net.Security;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using VirtBackup.Core;

namespace VirtBackup.Nbd.Tests;

/// <summary>Against nbdkit, whose plugins and filters make servers fail, dawdle and be particular.</summary>
public sealed class NbdkitTests : IDisposable
{
    private const int MiB = 1 << 20;
    private readonly TempFolder _folder = new();
    private static CancellationToken Token => TestContext.Current.CancellationToken;

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task ReadsThePattern(bool structured)
    {
        using var server = NbdServerProcess.StartNbdkit(_folder, [.. structured ? (string[])[] : ["--no-sr"], "pattern", "size=16M"]);
        var options = new NbdClientOptions { MetaContexts = [NbdContexts.BaseAllocation] };
        await using var client = await NbdClient.ConnectAsync(server.Endpoint, options, Token);
        Assert.Equal(structured ? [NbdContexts.BaseAllocation] : [], client.Contexts);
        await Task.WhenAll(Enumerable.Range(0, 64).Select(async index =>
        {
            var offset = index * (16 * MiB / 64);
            var buffer = new byte[16 * MiB / 64];
            await client.ReadAsync(offset, buffer, Token);
            for (var at = 0; at < buffer.Length; at += 8)
            {
                Assert.Equal(offset + at, BinaryPrimitives.ReadInt64BigEndian(buffer.AsSpan(at)));
            }
        }));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task ServesOverlappingWritersAndReaders(bool structured)
    {
        using var server = NbdServerProcess.StartNbdkit(_folder, [.. structured ? (string[])[] : ["--no-sr"], "memory", "32M"]);
        await using var client = await NbdClient.ConnectAsync(server.Endpoint, new NbdClientOptions(), Token);
        Assert.True(client.CanMultiConnect);
        await Task.WhenAll(Enumerable.Range(0, 32).Select(async index =>
        {
            var written = RandomNumberGenerator.GetBytes(MiB);
            var read = new byte[MiB];
            await client.WriteAsync(index * MiB, written, Token);
            await client.WriteZeroesAsync((index * MiB) + 1000, 5000, Token);
            written.AsSpan(1000, 5000).Clear();
            await client.FlushAsync(Token);
            await client.ReadAsync(index * MiB, read, Token);
            Assert.True(written.AsSpan().SequenceEqual(read));
        }));
    }

    [Theory]
    [InlineData("EIO", NbdError.InputOutput)]
    [InlineData("EINVAL", NbdError.InvalidArgument)]
    [InlineData("ENOSPC", NbdError.NoSpace)]
    public async Task ReportsAnErrorAndGoesOn(string name, NbdError error)
    {
        using var server = NbdServerProcess.StartNbdkit(_folder, "--filter=error", "memory", "1M", "error-pread=" + name, "error-pread-rate=100%");
        await using var client = await NbdClient.ConnectAsync(server.Endpoint, new NbdClientOptions(), Token);
        for (var attempt = 0; attempt < 3; attempt++)
        {
            var failure = await Assert.ThrowsAsync<NbdErrorException>(() => client.ReadAsync(4096, new byte[512], Token).AsTask());
            Assert.Equal((error, NbdCommand.Read, 4096L, 512L), (failure.Error, failure.Command, failure.Offset, failure.Length));
            Assert.Contains(name, failure.Message, StringComparison.Ordinal);
            await client.WriteAsync(0, new byte[512], Token);
        }
    }

    [Fact]
    public async Task CancelsReadsThatTheServerDelays()
    {
        using var server = NbdServerProcess.StartNbdkit(_folder, "--filter=delay", "memory", "1M", "rdelay=1");
        await using var client = await NbdClient.ConnectAsync(server.Endpoint, new NbdClientOptions { RequestsInFlightMax = 4 }, Token);
        var buffer = new byte[4096];
        buffer.AsSpan().Fill(0xaa);
        using var cancel = new CancellationTokenSource();
        var reading = client.ReadAsync(0, buffer, cancel.Token).AsTask();
        await cancel.CancelAsync();
        await Assert.ThrowsAsync<OperationCanceledException>(() => reading);
        // Its late reply is thrown away; the connection goes on.
        await client.ReadAsync(8192, new byte[4096], Token);
        Assert.Equal(-1, buffer.AsSpan().IndexOfAnyExcept((byte)0xaa));
    }

    [Theory]
    [InlineData(1, true)]
    [InlineData(2, true)]
    [InlineData(3, false)]
    public async Task CancellingAtAnyMomentDisturbsNobody(int seed, bool structured)
    {
        const int piece = 256 << 10;
        using var server = NbdServerProcess.StartNbdkit(_folder, [.. structured ? (string[])[] : ["--no-sr"], "pattern", "size=64M"]);
        await using var client = await NbdClient.ConnectAsync(server.Endpoint, new NbdClientOptions { RequestsInFlightMax = 8 }, Token);
        var cancelled = 0;
        await Task.WhenAll(Enumerable.Range(0, 12).Select(async worker =>
        {
            var random = new Random((seed * 100) + worker);
            var buffer = new byte[piece];
            for (var round = 0; round < 150; round++)
            {
                var offset = random.Next(0, 64 * MiB / piece) * piece;
                buffer.AsSpan().Fill(0xee);
                using var cancel = new CancellationTokenSource();
                var reading = client.ReadAsync(offset, buffer, cancel.Token);
                if (random.Next(2) == 0)
                {
                    for (var pause = random.Next(0, 40); pause > 0; pause--)
                    {
                        await Task.Yield();
                    }
                    await cancel.CancelAsync();
                }
                try
                {
                    await reading;
                    Assert.Equal(offset, BinaryPrimitives.ReadInt64BigEndian(buffer));
                    Assert.Equal(offset + piece - 8, BinaryPrimitives.ReadInt64BigEndian(buffer.AsSpan(piece - 8)));
                }
                catch (OperationCanceledException)
                {
                    // From here on the buffer is ours: another request's time passes and nothing may change in it.
                    Interlocked.Increment(ref cancelled);
                    buffer.AsSpan().Fill(0xdd);
                    await client.ReadAsync(0, new byte[512], Token);
                    Assert.Equal(-1, buffer.AsSpan().IndexOfAnyExcept((byte)0xdd));
                }
            }
        }));
        Assert.True(cancelled > 0);
    }

    [Fact]
    public async Task ObeysBlockSizes()
    {
        using var server = NbdServerProcess.StartNbdkit(_folder, "--filter=blocksize-policy", "memory", "4M",
            "blocksize-minimum=4096", "blocksize-preferred=64K", "blocksize-maximum=128K", "blocksize-error-policy=error");
        await using var client = await NbdClient.ConnectAsync(server.Endpoint, new NbdClientOptions(), Token);
        Assert.Equal(new NbdBlockSizes(4096, 64 << 10, 128 << 10), client.BlockSizes);
        var written = RandomNumberGenerator.GetBytes(3 * MiB);
        var read = new byte[written.Length];
        await client.WriteAsync(4096, written, Token);
        await client.ReadAsync(4096, read, Token);
        Assert.True(written.AsSpan().SequenceEqual(read));
        var refusal = await Assert.ThrowsAsync<FaultException>(() => client.ReadAsync(512, new byte[4096], Token).AsTask());
        Assert.Equal(FaultReason.InvalidArgument, refusal.Reason);
    }

    [Fact]
    public async Task WalksTheAllocationOfASparseDisk()
    {
        using var server = NbdServerProcess.StartNbdkit(_folder, "data", "size=8G", "data=@0x10000 1 @0x140000000 2");
        var options = new NbdClientOptions { MetaContexts = [NbdContexts.BaseAllocation] };
        await using var client = await NbdClient.ConnectAsync(server.Endpoint, options, Token);
        var extents = await client.BlockStatusAsync(NbdContexts.BaseAllocation, 0, client.Size, Token).ToListAsync(Token);
        QemuNbdTests.AssertTiling(extents, 0, client.Size);
        Assert.Equal(5, extents.Count);
        var data = extents.Where(extent => !extent.IsZero).ToList();
        Assert.Equal(2, data.Count);
        Assert.True(data[0] is { Offset: <= 0x10000, End: > 0x10000 } && data[1] is { Offset: <= 0x140000000, End: > 0x140000000 });
        Assert.Empty(await client.BlockStatusAsync(NbdContexts.BaseAllocation, 0, 0, Token).ToListAsync(Token));
    }

    [Fact]
    public async Task AServerThatDiesFailsPendingAndLaterCalls()
    {
        using var server = NbdServerProcess.StartNbdkit(_folder, "--filter=delay", "memory", "1M", "rdelay=60");
        await using var client = await NbdClient.ConnectAsync(server.Endpoint, new NbdClientOptions { RequestsInFlightMax = 2 }, Token);
        var calls = Enumerable.Range(0, 5).Select(_ => client.ReadAsync(0, new byte[512], Token).AsTask()).ToList();
        server.Kill();
        foreach (var call in calls)
        {
            Assert.Equal(FaultReason.Unavailable, (await Assert.ThrowsAsync<FaultException>(() => call)).Reason);
        }
        var later = await Assert.ThrowsAsync<FaultException>(() => client.FlushAsync(Token).AsTask());
        Assert.Equal(FaultReason.Unavailable, later.Reason);
    }

    [Fact]
    public async Task UpgradesToTls()
    {
        using var authority = Certificate("CN=Test authority", null);
        using var stranger = Certificate("CN=Another authority", null);
        using var certificate = Certificate("CN=localhost", authority);
        await File.WriteAllTextAsync(_folder.File("ca-cert.pem"), authority.ExportCertificatePem(), Token);
        await File.WriteAllTextAsync(_folder.File("server-cert.pem"), certificate.ExportCertificatePem(), Token);
        await File.WriteAllTextAsync(_folder.File("server-key.pem"), certificate.GetECDsaPrivateKey()!.ExportPkcs8PrivateKeyPem(), Token);
        using var server = NbdServerProcess.StartNbdkit(_folder, "--tls=require", "--tls-certificates=" + Path.GetDirectoryName(_folder.File("x")), "memory", "4M");

        await using var client = await NbdClient.ConnectAsync(server.Endpoint, new NbdClientOptions { Tls = Trusting(authority) }, Token);
        var written = RandomNumberGenerator.GetBytes(2 * MiB);
        var read = new byte[written.Length];
        await client.WriteAsync(0, written, Token);
        await Task.WhenAll(Enumerable.Range(0, 16).Select(index => client.ReadAsync(index << 17, read.AsMemory(index << 17, 1 << 17), Token).AsTask()));
        Assert.True(written.AsSpan().SequenceEqual(read));

        Assert.Equal(FaultReason.Denied, await ReasonAsync(new NbdClientOptions { Tls = Trusting(stranger) }));
        Assert.Equal(FaultReason.Denied, await ReasonAsync(new NbdClientOptions()));
        using var plain = NbdServerProcess.StartNbdkit(_folder, "--tls=off", "memory", "1M");
        var refusal = await Assert.ThrowsAsync<FaultException>(
            () => NbdClient.ConnectAsync(plain.Endpoint, new NbdClientOptions { Tls = Trusting(authority) }, Token));
        Assert.NotEqual(FaultReason.Malformed, refusal.Reason);

        async Task<FaultReason> ReasonAsync(NbdClientOptions options) =>
            (await Assert.ThrowsAsync<FaultException>(() => NbdClient.ConnectAsync(server.Endpoint, options, Token))).Reason;
    }

    private static SslClientAuthenticationOptions Trusting(X509Certificate2 authority) => new()
    {
        TargetHost = "localhost",
        CertificateChainPolicy = new X509ChainPolicy
        {
            TrustMode = X509ChainTrustMode.CustomRootTrust,
            CustomTrustStore = { authority },
            RevocationMode = X509RevocationMode.NoCheck,
        },
    };

    private static X509Certificate2 Certificate(string name, X509Certificate2? issuer)
    {
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var request = new CertificateRequest(name, key, HashAlgorithmName.SHA256);
        request.CertificateExtensions.Add(new X509BasicConstraintsExtension(issuer is null, false, 0, true));
        var names = new SubjectAlternativeNameBuilder();
        names.AddDnsName("localhost");
        request.CertificateExtensions.Add(names.Build());
        var (from, to) = (DateTimeOffset.UtcNow.AddDays(-1), DateTimeOffset.UtcNow.AddDays(1));
        if (issuer is null)
        {
            return request.CreateSelfSigned(from, to);
        }
        using var signed = request.Create(issuer, issuer.NotBefore, issuer.NotAfter, RandomNumberGenerator.GetBytes(8));
        return signed.CopyWithPrivateKey(key);
    }
}
