using VirtBackup.Testing.Installations;

namespace VirtBackup.EndToEnd.Tests;

/// <summary>Who may not come in, and what they are told.</summary>
public sealed class AdmissionTests
{
    [Fact]
    public async Task Tokens_that_are_wrong_used_or_made_for_another_are_refused()
    {
        await using var installation = await Installation.CreateAsync();
        await installation.Controller.StartAsync();
        var token = await installation.CreateTokenAsync("--name", "host");

        var nonsense = await installation.EnrollAsync(installation.AddAgent("host"), "vb1:nonsense");
        Outcomes.AssertOneError(nonsense, 2, "join token");
        Assert.Contains("copy the line that 'virtbackup agent token' printed", nonsense.NextSteps, StringComparison.Ordinal);
        var middle = token.Length / 2;
        var damaged = token[..middle] + (token[middle] == 'a' ? 'b' : 'a') + token[(middle + 1)..];
        var result = await installation.EnrollAsync(installation.AddAgent("host"), damaged);
        Assert.NotEqual(0, result.ExitCode);
        Assert.Single(result.Errors);
        Outcomes.AssertOneError(await installation.EnrollAsync(installation.AddAgent("other"), token), 4, "host");
        var host = installation.AddAgent("host");
        (await installation.EnrollAsync(host, token)).EnsureSuccess();
        Outcomes.AssertOneError(await installation.EnrollAsync(host, token), 4, "enrolled already");
        var thief = installation.AddAgent("thief");
        Outcomes.AssertOneError(await installation.RunAsync("agent", "enroll", token, "--name", "host", "--home", thief.Home, "--controller", installation.Address), 4);

        // None of the refused is half enrolled.
        thief.Service.Launch();
        Assert.NotEqual(0, await thief.Service.WaitForExitAsync());
        Assert.Contains("not enrolled", thief.Service.Log, StringComparison.Ordinal);
        var agents = (await installation.RunAsync("agent", "list")).Json.GetProperty("agents").EnumerateArray().Select(agent => agent.GetProperty("name").GetString());
        Assert.Equal(["host"], agents);
    }

    [Fact]
    public async Task An_expired_token_is_refused()
    {
        await using var installation = await Installation.CreateAsync();
        await installation.Controller.StartAsync();
        var made = (await installation.RunAsync("agent", "token", "--lifetime", "1m")).Json;
        var expires = made.GetProperty("expire_time").GetDateTimeOffset();
        while (DateTimeOffset.UtcNow <= expires.AddSeconds(1)) await Task.Delay(500, TestContext.Current.CancellationToken);
        Outcomes.AssertOneError(await installation.EnrollAsync(installation.AddAgent("late"), made.GetProperty("join_token").GetString()!), 4, "expired");
    }

    [Fact]
    public async Task Revoked_agents_and_strangers_are_shut_out()
    {
        var (installation, agent) = await Installation.StartAsync((_, _) => { });
        await using var _ = installation;
        (await installation.RunAsync("agent", "revoke", "host")).EnsureSuccess();
        await AssertDeniedAsync(agent.Service);
        agent.Service.Launch();
        await AssertDeniedAsync(agent.Service);

        // Another installation's people and agents: its authority is not this one's.
        await using var other = await Installation.CreateAsync();
        await other.Controller.StartAsync();
        var stranger = await other.EnrollAsync("stranger");
        await File.WriteAllTextAsync(Path.Combine(other.Credentials, "controller"), installation.Address + "\n");
        var refused = await other.RunAsync("controller", "status");
        Assert.NotEqual(0, refused.ExitCode);
        Assert.Contains("trust", Assert.Single(refused.Errors), StringComparison.OrdinalIgnoreCase);
        await File.WriteAllTextAsync(Path.Combine(stranger.Home, "controller"), installation.Address + "\n");
        stranger.Service.Launch();
        await stranger.Service.WaitForLineAsync("The link to the controller broke");
        await stranger.Service.StopAsync();
        Assert.DoesNotContain("ready: connected", stranger.Service.Log, StringComparison.Ordinal);
    }

    private static async Task AssertDeniedAsync(ServiceProcess service)
    {
        var code = await service.WaitForExitAsync();
        Assert.True(code == 4, $"The agent ended with exit code {code}:\n{service.RecentLog}");
        Assert.Single(service.RecentLog.Split('\n'), line => line.StartsWith("error: ", StringComparison.Ordinal));
    }
}
