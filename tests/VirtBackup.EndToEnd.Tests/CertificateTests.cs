using VirtBackup.Testing.Installations;
using VirtBackup.Testing.Lab;

namespace VirtBackup.EndToEnd.Tests;

/// <summary>Certificates that end: those of programs renew themselves, and who comes with an expired one is told what to do.</summary>
public sealed class CertificateTests
{
    [Fact]
    public async Task An_agent_renews_its_certificate_while_it_runs_and_goes_on_when_the_old_one_has_expired()
    {
        using var disks = new LabDirectory();
        var image = await Disks.WriteRandomAsync(disks.File("disk.raw"), 5 << 20);
        await using var installation = await Installation.CreateAsync();
        await installation.Controller.StartAsync();
        var agent = await installation.EnrollAsync("host");
        agent.Add("m", Guid.NewGuid(), new InstalledImage(image, LabDiskFormat.Raw, "disk"));
        var certificate = installation.CertificateOf(agent);
        var now = DateTimeOffset.UtcNow;
        var expires = now.AddSeconds(24);
        await certificate.RedateAsync(now.AddSeconds(-12), expires);

        // Its two thirds are over in 12 s: until then, it connects and backs up with the old one.
        await agent.Service.StartAsync();
        await installation.WaitForMachineAsync("m");
        var first = Outcomes.PointOf(await installation.BackUpAsync("m"));
        // On a busy machine more than those 12 s may be over by now.
        Assert.True(DateTimeOffset.UtcNow > now.AddSeconds(12) || !agent.Service.Log.Contains("renewed", StringComparison.Ordinal), agent.Service.Log);
        await agent.Service.WaitForLineAsync("The agent's certificate was renewed");
        using var renewed = certificate.Read();
        Assert.InRange(renewed.NotAfter.ToUniversalTime(), now.AddDays(29).UtcDateTime, now.AddDays(31).UtcDateTime);

        // Connections that were made with the old certificate die with it; the agent's do not depend on them.
        while (DateTimeOffset.UtcNow <= expires.AddSeconds(1)) await Task.Delay(250, TestContext.Current.CancellationToken);
        await Disks.WriteRandomAsync(image, 5 << 20);
        var second = Outcomes.PointOf(await installation.BackUpAsync("m"));
        Assert.Equal([second, first], await installation.ListPointsAsync());
        var restored = await installation.RestoreDisksAsync(second, "restored");
        Assert.Equal(await File.ReadAllBytesAsync(image), await File.ReadAllBytesAsync(restored["disk"]));
        await agent.Service.RestartAsync();
        Assert.DoesNotContain("renewed", agent.Service.RecentLog, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Expired_agents_and_operators_are_refused_and_come_back_the_way_that_they_are_told()
    {
        await using var installation = await Installation.CreateAsync();
        await installation.Controller.StartAsync();
        var agent = await installation.EnrollAsync("host");
        var yesterday = DateTimeOffset.UtcNow.AddDays(-1);
        await installation.CertificateOf(agent).RedateAsync(yesterday.AddDays(-30), yesterday);
        agent.Service.Launch();
        Assert.Equal(4, await agent.Service.WaitForExitAsync());
        var lines = agent.Service.RecentLog.Split('\n');
        var error = Assert.Single(lines, line => line.StartsWith("error: ", StringComparison.Ordinal));
        Assert.Contains($"expired since {yesterday:yyyy-MM-dd}", error, StringComparison.Ordinal);
        Assert.Contains(installation.Address, error, StringComparison.Ordinal);
        Assert.Contains("virtbackup agent enroll", Assert.Single(lines, line => line.StartsWith("next: ", StringComparison.Ordinal)), StringComparison.Ordinal);

        Directory.Move(Path.Combine(agent.Home, "identity"), Path.Combine(agent.Home, "identity-old"));
        (await installation.EnrollAsync(agent, await installation.CreateTokenAsync("--name", "host"))).EnsureSuccess();
        await agent.Service.StartAsync();

        await installation.OperatorCertificate.RedateAsync(yesterday.AddDays(-825), yesterday);
        var refused = await installation.RunAsync("controller", "status");
        Outcomes.AssertOneError(refused, 4, installation.Address, $"expired since {yesterday:yyyy-MM-dd}");
        Assert.Contains("on the controller's host, make new credentials: virtbackup controller credentials", refused.NextSteps, StringComparison.Ordinal);

        var anew = installation.File("credentials");
        (await installation.RunAsync("controller", "credentials", "--data", installation.Home, "--operator-credentials", anew, "--name", "second")).EnsureSuccess();
        var status = await installation.RunAsync("controller", "status", "--credentials", anew);
        Assert.Equal(1, status.Json.GetProperty("agents_connected").GetInt32());
        Outcomes.AssertOneError(
            await installation.RunAsync("controller", "credentials", "--data", installation.Home, "--operator-credentials", anew), 4, anew, "already");
    }
}
