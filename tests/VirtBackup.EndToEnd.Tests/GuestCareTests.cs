using System.Text.Json;
using VirtBackup.Testing.Installations;
using VirtBackup.Testing.Lab;

namespace VirtBackup.EndToEnd.Tests;

/// <summary>What a backup does to its guest, on a real one: hooks, freeze, thaw, and nothing that lasts, whoever dies when.</summary>
public sealed class GuestCareTests
{
    private const string Hooks = """
        guests:
          - before_freeze:
              command: [/bin/sh, -c, 'echo pausing the database; echo before >> /run/hooks']
            after_thaw:
              command: [/bin/sh, -c, 'echo after >> /run/hooks']
            write_latency_free_ms: 0
        """;

    [Fact]
    public async Task Hooks_run_around_the_freeze_and_a_guest_held_by_a_killed_agent_goes_on_within_seconds()
    {
        await using var vm = await LabVm.BootAsync(new LabVmOptions { Name = "web" });
        var (installation, agent) = await Installation.StartAsync((_, agent) =>
        {
            agent.Add(vm);
            agent.Append(Hooks);
        });
        await using var _ = installation;
        await installation.WaitForMachineAsync("web");
        (await vm.ExecAsync("(while [ ! -e /run/enough ]; do dd if=/dev/zero of=/data/w bs=4k count=1 conv=notrunc,fsync; sleep 0.05; done) </dev/null >/dev/null 2>&1 &")).EnsureSuccess();

        var job = (await installation.RunAsync("backup", "run", "web", "--quiesce-timeout", "30")).Json;
        (await vm.ExecAsync("touch /run/enough")).EnsureSuccess();
        var point = job.GetProperty("result").GetProperty("backup");
        Assert.Equal("application", point.GetProperty("consistency").GetString());
        Assert.Contains("2 file systems were frozen for", point.GetProperty("consistency_detail").GetString(), StringComparison.Ordinal);
        Assert.Equal("before\nafter\n", (await vm.ExecAsync("cat /run/hooks")).Stdout);
        var log = (await installation.RunAsync("job", "log", job.GetProperty("job_id").GetString()!)).Stdout;
        Assert.Contains("Hook before the freeze said: pausing the database", log, StringComparison.Ordinal);
        var impact = point.GetProperty("impact");
        Assert.True(impact.GetProperty("operations").GetInt32() > 0 && impact.GetProperty("p99_ms").GetDouble() >= impact.GetProperty("p50_ms").GetDouble(), impact.GetRawText());
        var shown = (await installation.RunAsync("vm", "show", "web")).Json.GetProperty("recent_jobs")[0].GetProperty("result").GetProperty("backup");
        Assert.True(JsonElement.DeepEquals(impact, shown.GetProperty("impact")));

        // Frozen by then, and stopped or about to be. The next process of the agent tries the backup again.
        foreach (var mark in new[] { "frozen", "stopped" })
        {
            var broken = await KillAtAsync(installation, agent, mark);
            await RequireGoesOnAsync(vm, agent);
            await agent.Service.StartAsync();
            var again = (await installation.FollowAsync(broken)).Json.GetProperty("result").GetProperty("backup");
            Assert.Equal("application", again.GetProperty("consistency").GetString());
        }
        Assert.Contains("The guest goes on.", agent.Service.Log, StringComparison.Ordinal);
        var said = (await vm.ExecAsync("cat /run/hooks")).Stdout.Split('\n', StringSplitOptions.RemoveEmptyEntries);
        Assert.Equal(said.Count(line => line == "before"), said.Count(line => line == "after"));
    }

    /// <summary>Starts a backup and kills the agent as soon as it has made a mark.</summary>
    /// <returns>The job.</returns>
    private static async Task<string> KillAtAsync(Installation installation, InstalledAgent agent, string mark)
    {
        var asking = installation.RunAsync("backup", "run", "web", "--detach");
        await agent.KillAtAsync(mark);
        return (await asking).Json.GetProperty("job_id").GetString()!;
    }

    private static async Task RequireGoesOnAsync(LabVm vm, InstalledAgent agent)
    {
        // Without a watchdog it would be for ever: nothing else thaws this guest before the agent is started again.
        var wrote = await vm.ExecAsync("echo alive > /data/alive && sync && cat /data/alive", TimeSpan.FromSeconds(30));
        Assert.Equal("alive\n", wrote.EnsureSuccess());
        Assert.Equal("running", (await vm.QmpAsync("query-status")).GetProperty("status").GetString());
        Assert.False(agent.Service.IsRunning);
        await Installation.PollAsync("the end of the marks", () => Task.FromResult(
            !new[] { "frozen", "stopped", "hooked" }.Any(mark => Directory.EnumerateFiles(agent.FleeceFolder, mark, SearchOption.AllDirectories).Any())));
    }
}
