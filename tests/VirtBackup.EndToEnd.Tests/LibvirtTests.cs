using System.Text;
using System.Text.Json;
using VirtBackup.Testing.Installations;
using VirtBackup.Testing.Lab;

namespace VirtBackup.EndToEnd.Tests;

/// <summary>The promise of the product, on a real guest that a real libvirt manages.</summary>
public sealed class LibvirtTests
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
    public async Task A_machine_is_backed_up_destroyed_undefined_and_restored_under_its_identity()
    {
        await using var libvirt = await LabLibvirt.StartAsync();
        var domain = await libvirt.DefineAsync("web", LabDiskFormat.Raw);
        await domain.BootAsync();
        var (installation, agent) = await Installation.StartAsync((installation, agent) =>
        {
            agent.Add(libvirt, installation.File("scratch"));
            agent.Append(Hooks + "\npriority: idle\n");
        });
        await using var ended = installation;
        await installation.WaitForMachineAsync("web");

        (await domain.ExecAsync("echo first > /data/marker && echo first > /root/marker && sync")).EnsureSuccess();
        var first = await BackUpWithCareAsync(installation, domain);
        await RequireThawedWithoutAgentAsync(installation, agent, domain);
        (await domain.ExecAsync("echo second > /data/marker && echo second > /root/marker && sync")).EnsureSuccess();
        var second = await installation.BackUpAsync("web");

        await libvirt.VirshAsync("destroy", "web");
        await libvirt.VirshAsync("undefine", "web", "--checkpoints-metadata");
        Directory.Delete(libvirt.File("web"), recursive: true);

        foreach (var (point, marker) in new[] { (Outcomes.PointOf(first), "first"), (Outcomes.PointOf(second), "second") })
        {
            var folder = libvirt.File($"restored-{marker}");
            var result = (await installation.RunAsync("restore", "run", point, "--folder", folder, "--name", "web", "--keep-identity")).Json;
            Assert.Equal(domain.Uuid.ToString(), (await libvirt.VirshAsync("domuuid", "web")).Trim());
            var restored = new LabDomain(libvirt, "web", domain.Uuid) { AgentPath = Path.Combine(folder, "web.qga") };
            Assert.Equal($"{marker}\n", Encoding.UTF8.GetString(await restored.ReadFileAsync("/data/marker")));
            Assert.Equal($"{marker}\n", Encoding.UTF8.GetString(await restored.ReadFileAsync("/root/marker")));
            Assert.True(result.GetProperty("result").GetProperty("restore").GetProperty("running").GetBoolean());
            await libvirt.VirshAsync("destroy", "web");
            if (marker == "first") await libvirt.VirshAsync("undefine", "web");
        }

        // The restored machine, off and under another name, goes on with the chain: it is the same machine.
        await libvirt.VirshAsync("domrename", "web", "renamed");
        await installation.WaitForMachineAsync("renamed");
        var third = await installation.BackUpAsync("renamed");
        var points = await installation.ListPointsAsync("--vm", "renamed");
        Assert.Equal(Outcomes.PointOf(third), points[0]);
        Assert.Equal([Outcomes.PointOf(second), Outcomes.PointOf(first)], points.Where(point => point == Outcomes.PointOf(second) || point == Outcomes.PointOf(first)));
    }

    /// <summary>A backup with hooks, beside a guest that writes: what it says of the guest is what was done and measured.</summary>
    private static async Task<JsonElement> BackUpWithCareAsync(Installation installation, LabDomain domain)
    {
        (await domain.ExecAsync("(while :; do dd if=/dev/zero of=/data/w bs=4k count=1 conv=notrunc,fsync; sleep 0.05; done) </dev/null >/dev/null 2>&1 &")).EnsureSuccess();
        var job = (await installation.RunAsync("backup", "run", "web", "--quiesce-timeout", "30")).Json;
        var backup = job.GetProperty("result").GetProperty("backup");
        Assert.Equal("application", backup.GetProperty("consistency").GetString());
        Assert.Contains("2 file systems were frozen for", backup.GetProperty("consistency_detail").GetString(), StringComparison.Ordinal);
        Assert.Equal("before\nafter\n", (await domain.ExecAsync("cat /run/hooks")).Stdout);
        var log = (await installation.RunAsync("job", "log", job.GetProperty("job_id").GetString()!)).Stdout;
        Assert.Contains("Hook before the freeze said: pausing the database", log, StringComparison.Ordinal);
        var impact = backup.GetProperty("impact");
        Assert.True(impact.GetProperty("operations").GetInt32() > 0 && impact.GetProperty("p99_ms").GetDouble() >= impact.GetProperty("p50_ms").GetDouble()
            && impact.GetProperty("p50_ms").GetDouble() > 0, impact.GetRawText());
        return backup;
    }

    /// <summary>Kills the agent while the guest is frozen: the guest writes again before there is another agent.</summary>
    private static async Task RequireThawedWithoutAgentAsync(Installation installation, InstalledAgent agent, LabDomain domain)
    {
        var scratch = installation.File("scratch");
        bool IsMarked() => Directory.EnumerateFiles(scratch, "frozen", SearchOption.AllDirectories).Any();
        var asking = installation.RunAsync("backup", "run", "web", "--detach");
        using var limit = new CancellationTokenSource(TimeSpan.FromMinutes(1));
        while (!IsMarked())
        {
            limit.Token.ThrowIfCancellationRequested();
            Thread.SpinWait(100);
        }
        // Step by step, so that it is known to be frozen when its agent dies.
        for (var isFrozen = false; !isFrozen;)
        {
            await Proc.CheckAsync("kill", ["-STOP", $"{agent.Service.Pid}"]);
            Assert.True(IsMarked(), "The guest was thawed before the agent could be killed.");
            isFrozen = (await domain.Libvirt.VirshAsync("qemu-agent-command", "web", """{"execute":"guest-fsfreeze-status"}""")).Contains("frozen", StringComparison.Ordinal);
            if (!isFrozen)
            {
                await Proc.CheckAsync("kill", ["-CONT", $"{agent.Service.Pid}"]);
                await Task.Delay(5);
            }
        }
        await agent.Service.KillAsync();
        var wrote = await domain.ExecAsync("echo alive > /data/alive && sync && cat /data/alive");
        Assert.Equal("alive\n", wrote.EnsureSuccess());
        Assert.False(agent.Service.IsRunning);
        await Installation.PollAsync("the end of the marks", () => Task.FromResult(!IsMarked() && !Directory.EnumerateFiles(scratch, "hooked", SearchOption.AllDirectories).Any()));
        var said = (await domain.ExecAsync("cat /run/hooks")).Stdout.Split('\n', StringSplitOptions.RemoveEmptyEntries);
        Assert.Equal(said.Count(line => line == "before"), said.Count(line => line == "after"));
        await agent.Service.StartAsync();
        var again = (await installation.FollowAsync((await asking).Json.GetProperty("job_id").GetString()!)).Json.GetProperty("result").GetProperty("backup");
        Assert.Equal("application", again.GetProperty("consistency").GetString());
        Assert.Contains("The guest goes on.", agent.Service.Log, StringComparison.Ordinal);
    }
}
