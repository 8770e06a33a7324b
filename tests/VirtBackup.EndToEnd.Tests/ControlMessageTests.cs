using System.Net;
using System.Net.Security;
using System.Security.Cryptography.X509Certificates;
using VirtBackup.Testing.Installations;
using VirtBackup.Testing.Lab;

namespace VirtBackup.EndToEnd.Tests;

/// <summary>The control plane's bound of 64 KiB for a message: kept by those who have more to say, and enforced.</summary>
public sealed class ControlMessageTests
{
    private const int BytesMax = 64 << 10;
    private const int ResourceExhausted = 8;
    private const int InvalidArgument = 3;

    [Fact]
    public async Task A_long_inventory_and_long_lists_of_changed_extents_arrive_whole()
    {
        const int machines = 500;
        using var disks = new LabDirectory();
        var image = await Disks.WriteRandomAsync(disks.File("disk.raw"), 48 << 20);
        var (installation, _) = await Installation.StartAsync((_, agent) =>
        {
            agent.Add("m", Guid.NewGuid(), new InstalledImage(image, LabDiskFormat.Raw, "disk"));
            // Descriptions of these fill some messages: each says that its image is missing, and where.
            for (var i = 1; i < machines; i++) agent.Add($"absent-{i}", Guid.NewGuid(), new InstalledImage($"/nowhere/{new string('x', 100)}/{i}", LabDiskFormat.Raw, "disk"));
        });
        await using var _ = installation;
        await installation.WaitForMachineAsync("m");
        Assert.Equal(machines, (await installation.RunAsync("vm", "list")).Json.GetProperty("virtual_machines").GetArrayLength());

        var first = Outcomes.PointOf(await installation.BackUpAsync("m"));
        var content = await File.ReadAllBytesAsync(image);
        content[1_000_001] ^= 1;
        content[40_000_001] ^= 1;
        await File.WriteAllBytesAsync(image, content);
        // Far more ranges than a list of assignments has room for.
        var ranges = Enumerable.Range(0, 30_000).Select(static i => 1_000_000L + (1500 * i));
        await File.WriteAllLinesAsync(disks.File("changes"), ranges.Select(static offset => $"{offset} 700"));
        var second = await installation.BackUpAsync("m", "--changed-extents", $"disk={disks.File("changes")}");
        Assert.Equal(first, second.GetProperty("base_point_id").GetString());
        var restored = await installation.RestoreDisksAsync(Outcomes.PointOf(second), "restored");
        Assert.Equal(content, await File.ReadAllBytesAsync(restored["disk"]));
    }

    [Fact]
    public async Task A_message_above_the_bound_is_refused_unread()
    {
        await using var installation = await Installation.CreateAsync();
        await installation.Controller.StartAsync();
        var agent = await installation.EnrollAsync("host");
        var identity = Path.Combine(agent.Home, "identity");
        using var certificate = X509Certificate2.CreateFromPemFile(Path.Combine(identity, "tls.crt"), Path.Combine(identity, "tls.key"));
        using var handler = new SocketsHttpHandler
        {
            SslOptions = new SslClientAuthenticationOptions
            {
                ClientCertificates = [certificate], LocalCertificateSelectionCallback = (_, _, _, _, _) => certificate,
                RemoteCertificateValidationCallback = (_, server, _, _) => server!.Issuer == certificate.Issuer,
            },
        };
        using var client = new HttpClient(handler) { BaseAddress = new Uri($"https://{installation.Address}") };

        // A renewal whose request is nonsense of the largest length is read; one byte more is not.
        Assert.Equal(InvalidArgument, await CallAsync(client, "RenewCertificate", BytesMax));
        Assert.Equal(ResourceExhausted, await CallAsync(client, "RenewCertificate", BytesMax + 1));
        Assert.Equal(ResourceExhausted, await CallAsync(client, "Connect", BytesMax + 1));
        await agent.Service.StartAsync();
    }

    [Fact]
    public async Task An_agent_refuses_a_message_above_the_bound_unread_and_goes_on()
    {
        await using var installation = await Installation.CreateAsync();
        await installation.Controller.StartAsync();
        var agent = await installation.EnrollAsync("host");
        await agent.Service.StartAsync();
        await installation.Controller.StopAsync();
        // One of the largest length is read, and is nonsense.
        await using (await TalkativeController.StartAsync(installation, BytesMax))
        {
            await agent.Service.WaitForLineAsync("did not begin with a hello", TimeSpan.FromMinutes(1));
        }
        await using (await TalkativeController.StartAsync(installation, BytesMax + 1))
        {
            await agent.Service.WaitForLineAsync("exceeds the maximum", TimeSpan.FromMinutes(1));
        }
        Assert.True(agent.Service.IsRunning);
        await installation.Controller.StartAsync();
        await Installation.PollAsync("the agent's return", () => Task.FromResult(agent.Service.RecentLog.Split("ready: connected").Length == 3));
    }

    /// <returns>The gRPC status of a call with one message of this length: field 1, filled with zeros.</returns>
    private static async Task<int> CallAsync(HttpClient client, string method, int length)
    {
        using var request = new HttpRequestMessage(HttpMethod.Post, $"/virtbackup.agent.v1.AgentService/{method}")
        {
            Version = HttpVersion.Version20, VersionPolicy = HttpVersionPolicy.RequestVersionExact, Content = new ByteArrayContent(GrpcFrame.Of(1, length)),
        };
        request.Content.Headers.ContentType = new("application/grpc");
        request.Headers.TE.Add(new("trailers"));
        using var response = await client.SendAsync(request);
        await response.Content.ReadAsByteArrayAsync();
        var values = response.TrailingHeaders.TryGetValues("grpc-status", out var trailing) ? trailing : response.Headers.GetValues("grpc-status");
        return int.Parse(values.Single(), System.Globalization.CultureInfo.InvariantCulture);
    }
}
