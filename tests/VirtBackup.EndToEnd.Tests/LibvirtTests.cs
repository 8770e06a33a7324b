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
    public async Task A_machine_is_restored_in_place_replaced_and_after_it_was_undefined_under_its_identity()
    {
        await using var libvirt = await LabLibvirt.StartAsync();
        var domain = await libvirt.DefineAsync("web", LabDiskFormat.Raw);
        await domain.BootAsync();
        var (installation, agent) = await Installation.StartAsync((installation, agent) =>
        {
            agent.Add(libvirt, installation.File("scratch"));
            agent.Append(Hooks);
        });
        await using var ended = installation;
        await installation.WaitForMachineAsync("web");

        (await domain.ExecAsync("echo first > /data/marker && echo first > /root/marker && sync")).EnsureSuccess();
        var first = await BackUpWithCareAsync(installation, domain);
        await RequireThawedWithoutAgentAsync(installation, agent, domain);
        (await domain.ExecAsync("echo second > /data/marker && echo second > /root/marker && sync")).EnsureSuccess();
        var second = await installation.BackUpAsync("web");

        // Its running state, saved while it stands still, at the instant of its disks.
        (await domain.ExecAsync("echo kept > /run/memory; (i=0; while :; do i=$((i+1)); echo $i > /run/count; sleep 0.2; done) >/dev/null 2>&1 &")).EnsureSuccess();
        Outcomes.AssertOneError(await installation.RunAsync("backup", "run", "web", "--with-state"), 1, "saves machines that stand still", "--state stop");
        var running = await installation.BackUpAsync("web", "--state", "stop");
        Assert.InRange(running.GetProperty("state").GetProperty("paused_ms").GetInt64(), 1, 120_000);
        var count = Encoding.UTF8.GetString(await domain.ReadFileAsync("/run/count"));

        // In its own place: the changed blocks alone, then new disks with another bus and network.
        Outcomes.AssertOneError(await installation.RunAsync("restore", "run", Outcomes.PointOf(first), "--in-place"), 1, "is running", "Shut it down");
        await libvirt.VirshAsync("destroy", "web");
        var plan = (await installation.RunAsync("restore", "plan", Outcomes.PointOf(first), "--in-place", "--no-measurement")).Json.GetProperty("result").GetProperty("restore_check");
        Assert.True(plan.GetProperty("possible").GetBoolean());
        RestoreOf(await installation.RunAsync("restore", "run", Outcomes.PointOf(running), "--in-place", "--with-state"));
        await AssertMarkerAsync(domain, "second");
        Assert.Equal("kept\n", Encoding.UTF8.GetString(await domain.ReadFileAsync("/run/memory")));
        await Installation.PollAsync("the guest's program to go on", async () => int.Parse(Encoding.UTF8.GetString(await domain.ReadFileAsync("/run/count")), System.Globalization.CultureInfo.InvariantCulture) > 0
            && Encoding.UTF8.GetString(await domain.ReadFileAsync("/run/count")) != count);
        await libvirt.VirshAsync("destroy", "web");
        var inPlace = RestoreOf(await installation.RunAsync("restore", "run", Outcomes.PointOf(first), "--in-place"));
        await AssertMarkerAsync(domain, "first");
        Assert.True(inPlace.GetProperty("running").GetBoolean());
        Assert.InRange(inPlace.GetProperty("bytes_written").GetInt64(), 1, 16 << 20);
        Assert.Equal("[]", inPlace.GetProperty("differences").GetRawText());
        await libvirt.VirshAsync("destroy", "web");
        var replaced = RestoreOf(await installation.RunAsync("restore", "run", Outcomes.PointOf(second), "--replace", "--bus", "vdb=scsi", "--map-network", "user=isolated"));
        await AssertMarkerAsync(domain, "second");
        Assert.Contains(replaced.GetProperty("differences").EnumerateArray(), difference => difference.GetProperty("item").GetString() == "disks.vdb.target.bus" && difference.GetProperty("recreated").GetString() == "scsi");
        await libvirt.VirshAsync("destroy", "web");

        await libvirt.VirshAsync("undefine", "web", "--checkpoints-metadata");
        Directory.Delete(libvirt.File("web"), recursive: true);
        Outcomes.AssertOneError(await installation.RunAsync("restore", "run", Outcomes.PointOf(first), "--replace"), 1, "there is nothing to replace", "--folder");
        var folder = libvirt.File("restored");
        var result = RestoreOf(await installation.RunAsync("restore", "run", Outcomes.PointOf(first), "--folder", folder, "--name", "web", "--keep-identity"));
        Assert.Equal(domain.Uuid.ToString(), (await libvirt.VirshAsync("domuuid", "web")).Trim());
        await AssertMarkerAsync(new LabDomain(libvirt, "web", domain.Uuid) { AgentPath = Path.Combine(folder, "web.qga") }, "first");
        Assert.True(result.GetProperty("running").GetBoolean());
        await libvirt.VirshAsync("destroy", "web");

        // The restored machine, off and under another name, goes on with the chain: it is the same machine.
        await libvirt.VirshAsync("domrename", "web", "renamed");
        await installation.WaitForMachineAsync("renamed");
        var third = await installation.BackUpAsync("renamed");
        var points = await installation.ListPointsAsync("--vm", "renamed");
        Assert.Equal(Outcomes.PointOf(third), points[0]);
        Assert.Equal([Outcomes.PointOf(second), Outcomes.PointOf(first)], points.Where(point => point == Outcomes.PointOf(second) || point == Outcomes.PointOf(first)));
        await AssertMovesAsync(installation, libvirt, "renamed");
    }

    /// <summary>To the libvirt of another host, off as the machine is and stays, and back while it runs.</summary>
    private static async Task AssertMovesAsync(Installation installation, LabLibvirt libvirt, string name)
    {
        await using var elsewhere = await LabLibvirt.StartAsync();
        var other = await installation.EnrollAsync("other");
        other.Add(elsewhere, installation.File("scratch-2"));
        await other.Service.StartAsync();
        var away = (await installation.RunAsync("migrate", "run", name, "--to-host", "other", "--folder", elsewhere.File("moved"))).Json;
        Assert.Equal("shut off", (await elsewhere.VirshAsync("domstate", name)).Trim());
        Assert.NotEqual(0, (await libvirt.TryVirshAsync("domstate", name)).ExitCode);
        (await installation.RunAsync("migrate", "remove-source", away.GetProperty("job_id").GetString()!, "--yes")).EnsureSuccess();
        await elsewhere.VirshAsync("start", name);
        await installation.WaitForMachineAsync(name, running: true);
        var back = await installation.RunAsync("migrate", "run", name, "--to-host", "host", "--folder", libvirt.File("back"), "--force-stop", "--stop-timeout", "1", "--remove-source", "--yes");
        Assert.InRange(back.Json.GetProperty("result").GetProperty("migration").GetProperty("rounds").GetArrayLength(), 3, 10);
        Assert.Equal("running", (await libvirt.VirshAsync("domstate", name)).Trim());
        Assert.NotEqual(0, (await elsewhere.TryVirshAsync("domstate", name)).ExitCode);
        Assert.False(Directory.Exists(elsewhere.File("moved")));
        await libvirt.VirshAsync("destroy", name);
    }

    /// <summary>A backup with hooks, beside a guest that writes: what it says of the guest is what was done and measured.</summary>
    private static async Task<JsonElement> BackUpWithCareAsync(Installation installation, LabDomain domain)
    {
        (await domain.ExecAsync("(while [ ! -e /run/enough ]; do dd if=/dev/zero of=/data/w bs=4k count=1 conv=notrunc,fsync; sleep 0.05; done) </dev/null >/dev/null 2>&1 &")).EnsureSuccess();
        var job = (await installation.RunAsync("backup", "run", "web", "--quiesce-timeout", "30")).Json;
        (await domain.ExecAsync("touch /run/enough")).EnsureSuccess();
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
        using var limit = new CancellationTokenSource(TimeSpan.FromMinutes(3));
        while (!IsMarked())
        {
            limit.Token.ThrowIfCancellationRequested();
            Thread.Sleep(1);
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

    private static JsonElement RestoreOf(CommandResult result) => result.Json.GetProperty("result").GetProperty("restore");

    private static async Task AssertMarkerAsync(LabDomain domain, string marker)
    {
        Assert.Equal($"{marker}\n", Encoding.UTF8.GetString(await domain.ReadFileAsync("/data/marker")));
        Assert.Equal($"{marker}\n", Encoding.UTF8.GetString(await domain.ReadFileAsync("/root/marker")));
    }
}
