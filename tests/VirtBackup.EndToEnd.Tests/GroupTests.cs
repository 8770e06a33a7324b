using System.Text.Json;
using VirtBackup.Testing.Installations;
using VirtBackup.Testing.Lab;

namespace VirtBackup.EndToEnd.Tests;

/// <summary>Two real guests on two agents, one of them without a guest agent, cut at one instant.</summary>
public sealed class GroupTests
{
    [Fact]
    public async Task Two_machines_on_two_agents_are_cut_together_and_none_is_held_when_one_agent_is_killed()
    {
        var booting = new[] { "web", "data" }.Select(name => LabVm.BootAsync(new LabVmOptions { Name = name })).ToArray();
        await using var installation = await Installation.CreateAsync();
        await installation.Controller.StartAsync();
        await using var web = await booting[0];
        await using var data = await booting[1];
        var agents = new List<InstalledAgent>();
        foreach (var (vm, hasAgent) in new[] { (web, true), (data, false) })
        {
            var agent = await installation.EnrollAsync($"host-{vm.Name}");
            agent.Add(vm, hasAgent);
            await agent.Service.StartAsync();
            agents.Add(agent);
        }
        await installation.WaitForMachineAsync("web");
        await installation.WaitForMachineAsync("data");
        (await installation.RunAsync("group", "create", "shop", "web", "data", "--skew-bound", "10000")).EnsureSuccess();

        var point = (await installation.RunAsync("group", "backup", "shop")).Json.GetProperty("result").GetProperty("group_backup");
        Assert.True(point.GetProperty("consistent").GetBoolean() && point.GetProperty("complete").GetBoolean(), point.GetRawText());
        Assert.InRange(point.GetProperty("skew_ms").GetDouble(), 0.001, 10_000);
        Assert.Equal(["crash", "filesystem"], await ConsistenciesAsync(installation, point));

        // What "web" must write before it is frozen takes seconds: so long "data" stands still, and nobody is cut. What ends the cut
        // lets "web" write again, so that its freeze comes to its end beside its thaw.
        await LimitWritesAsync(web, 1 << 20);
        (await web.ExecAsync("head -c 3145728 /dev/urandom > /data/slow", TimeSpan.FromSeconds(30))).EnsureSuccess();
        var asking = installation.RunAsync("group", "backup", "shop");
        await agents[1].KillAtAsync("stopped");
        await LimitWritesAsync(web, 0);
        var failed = await asking;
        Outcomes.AssertOneError(failed, 1, "was not cut", "data: ");
        foreach (var vm in new[] { web, data })
        {
            Assert.Equal("alive\n", (await vm.ExecAsync("echo alive > /data/alive && sync && cat /data/alive", TimeSpan.FromSeconds(30))).EnsureSuccess());
            Assert.Equal("running", (await vm.QmpAsync("query-status")).GetProperty("status").GetString());
        }
        var jobs = (await installation.RunAsync("job", "list", "--vm", "web")).Json.GetProperty("jobs");
        Assert.Contains("The group 'shop' was not cut: data: ", jobs[0].GetProperty("failure").GetProperty("message").GetString(), StringComparison.Ordinal);

        await agents[1].Service.StartAsync();
        await installation.WaitForMachineAsync("data");
        (await installation.RunAsync("group", "backup", "shop", "--no-quiesce")).EnsureSuccess();
        (await installation.RunAsync("recovery-point", "forget", point.GetProperty("members")[0].GetProperty("point_id").GetString()!)).EnsureSuccess();
        var left = (await installation.RunAsync("group", "show", "shop")).Json.GetProperty("group_points");
        Assert.Equal([(true, true), (false, false)], left.EnumerateArray().Select(shown => (shown.GetProperty("consistent").GetBoolean(), shown.GetProperty("complete").GetBoolean())));
    }

    private static async Task<string[]> ConsistenciesAsync(Installation installation, JsonElement point)
    {
        var found = new List<string>();
        foreach (var member in point.GetProperty("members").EnumerateArray())
        {
            var shown = (await installation.RunAsync("recovery-point", "show", member.GetProperty("point_id").GetString()!)).Json;
            found.Add(shown.GetProperty("consistency").GetString()!);
        }
        return [.. found];
    }

    /// <param name="bytesPerSecond">0: no limit.</param>
    private static Task<JsonElement> LimitWritesAsync(LabVm vm, int bytesPerSecond) => vm.QmpAsync("block_set_io_throttle",
        $$"""{"id":"/machine/peripheral/disk-data/virtio-backend","bps":0,"bps_rd":0,"bps_wr":{{bytesPerSecond}},"iops":0,"iops_rd":0,"iops_wr":0}""");
}
