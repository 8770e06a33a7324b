using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json.Nodes;
using VirtBackup.Testing.Lab;

namespace VirtBackup.Lab.Tests;

/// <summary>The lab itself: what the other tests and proofs take for granted about its guest.</summary>
public sealed class GuestTests
{
    private static CancellationToken Token => TestContext.Current.CancellationToken;

    [Fact]
    public async Task Boots_runs_commands_and_exchanges_files()
    {
        await using var vm = await LabVm.BootAsync(new LabVmOptions { FromItsFirmware = true }, Token);

        var result = await vm.ExecAsync("echo out; echo err >&2; exit 3", cancellationToken: Token);
        Assert.Equal(new GuestResult(3, "out\n", "err\n"), result);

        var mounts = (await vm.ExecAsync("cat /proc/mounts", cancellationToken: Token)).EnsureSuccess().Split('\n');
        Assert.Contains(mounts, m => m.Contains(" / ext4 ", StringComparison.Ordinal));
        Assert.Contains(mounts, m => m.Contains(" /data ext4 ", StringComparison.Ordinal));
        Assert.Contains(mounts, m => m.Contains(" /run tmpfs ", StringComparison.Ordinal));

        // Longer than one message of the agent.
        var content = new byte[1_500_000];
        new Random(1).NextBytes(content);
        await vm.WriteFileAsync("/data/file", content, Token);
        Assert.Equal(content, await vm.ReadFileAsync("/data/file", Token));
        var sum = (await vm.ExecAsync("sha256sum < /data/file", cancellationToken: Token)).EnsureSuccess();
        Assert.StartsWith(Convert.ToHexStringLower(SHA256.HashData(content)), sum, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Goes_on_from_a_saved_memory_with_the_time_of_day_and_random_numbers_of_its_own()
    {
        // Whether a machine of this kind was saved before depends on what else ran, and another program may be saving one just now.
        string? before = null;
        for (var (starts, saved) = (1, 0); saved < 2; starts++)
        {
            Assert.True(starts < 40, "It was never saved.");
            await using var vm = await LabVm.BootAsync(cancellationToken: Token);
            var random = (await vm.ExecAsync("head -c 32 /dev/urandom | sha256sum", cancellationToken: Token)).EnsureSuccess();
            Assert.NotEqual(before, random);
            before = random;
            var apart = long.Parse((await vm.ExecAsync("date +%s", cancellationToken: Token)).EnsureSuccess(), CultureInfo.InvariantCulture) - DateTimeOffset.UtcNow.ToUnixTimeSeconds();
            Assert.InRange(apart, -20, 20);
            if ((await File.ReadAllTextAsync($"/proc/{vm.Pid}/cmdline", Token)).TrimEnd('\0').Split('\0') is not [.., "-incoming", "defer"] || ++saved < 2) continue;
            Assert.True((await vm.QmpAsync("query-status", null, Token)).GetProperty("running").GetBoolean());
            (await vm.ExecAsync("echo kept > /data/marker && sync && cat /proc/mounts | grep -c ' ext4 rw'", cancellationToken: Token)).EnsureSuccess();
            await vm.KillAsync(Token);
            await vm.StartAgainAsync(Token);
            Assert.Equal("kept\n", (await vm.ExecAsync("cat /data/marker", cancellationToken: Token)).EnsureSuccess());
        }
    }

    [Fact]
    public async Task Synced_data_survives_a_kill_and_memory_does_not()
    {
        await using var vm = await LabVm.BootAsync(cancellationToken: Token);
        var first = vm.Pid;
        await vm.WriteFileAsync("/root/marker", Encoding.UTF8.GetBytes("kept"), Token);
        await vm.WriteFileAsync("/data/marker", Encoding.UTF8.GetBytes("kept, too"), Token);
        await vm.WriteFileAsync("/run/marker", Encoding.UTF8.GetBytes("in memory"), Token);

        await vm.KillAsync(Token);
        Assert.True(vm.HasExited);
        await vm.StartAgainAsync(Token);
        await vm.WaitForAgentAsync(Token);

        Assert.NotEqual(first, vm.Pid);
        Assert.Equal("kept", Encoding.UTF8.GetString(await vm.ReadFileAsync("/root/marker", Token)));
        Assert.Equal("kept, too", Encoding.UTF8.GetString(await vm.ReadFileAsync("/data/marker", Token)));
        Assert.NotEqual(0, (await vm.ExecAsync("test -e /run/marker", cancellationToken: Token)).ExitCode);
    }

    [Fact]
    public async Task Freezes_and_thaws_both_file_systems_through_the_agent_left_to_the_product()
    {
        await using var vm = await LabVm.BootAsync(cancellationToken: Token);
        await using var agent = await LabGuestAgent.ConnectAsync(vm.GuestAgentPath, Token);

        Assert.Equal(2, (await agent.ExecuteAsync("guest-fsfreeze-freeze", cancellationToken: Token)).GetInt32());
        Assert.Equal("frozen", (await agent.ExecuteAsync("guest-fsfreeze-status", cancellationToken: Token)).GetString());
        var refused = await Assert.ThrowsAsync<LabException>(() => agent.ShellAsync("true", Token));
        Assert.Contains("frozen", refused.Message, StringComparison.Ordinal);
        // The tests' own agent still sees the guest, in which a write now waits.
        Assert.Equal("freeze", (await vm.ExecAsync("cut -d' ' -f2 /run/fsfreeze.log", cancellationToken: Token)).EnsureSuccess().Trim());
        await vm.ExecAsync("(echo late > /data/late; touch /run/written) >/dev/null 2>&1 &", cancellationToken: Token);
        Assert.NotEqual(0, (await vm.ExecAsync("sleep 0.5; test -e /run/written", cancellationToken: Token)).ExitCode);

        Assert.Equal(2, (await agent.ExecuteAsync("guest-fsfreeze-thaw", cancellationToken: Token)).GetInt32());
        Assert.Equal("thawed", (await agent.ExecuteAsync("guest-fsfreeze-status", cancellationToken: Token)).GetString());
        var written = await vm.ExecAsync(
            "i=0; until [ -e /run/written ] || [ $i -gt 100 ]; do sleep 0.1; i=$((i+1)); done; cat /data/late", cancellationToken: Token);
        Assert.Equal("late\n", written.EnsureSuccess());
    }

    [Fact]
    public async Task Powers_down_by_its_button_and_leaves_clean_file_systems()
    {
        await using var vm = await LabVm.BootAsync(cancellationToken: Token);
        await vm.WriteFileAsync("/data/file", new byte[4096], Token);
        await vm.PowerDownAsync(Token);

        Assert.True(vm.HasExited);
        using var scratch = new LabDirectory();
        foreach (var disk in vm.Disks)
        {
            var raw = scratch.File(disk.NodeName);
            await LabDisk.ConvertAsync(disk.Path, disk.Format, raw, LabDiskFormat.Raw, cancellationToken: Token);
            (await Proc.RunAsync("/sbin/e2fsck", ["-fn", raw], cancellationToken: Token)).EnsureSuccess();
        }
    }

    [Theory]
    [InlineData("q35", LabBus.VirtioScsi, LabDiskFormat.Raw, false)]
    [InlineData("q35", LabBus.VirtioScsi, LabDiskFormat.Qcow2, true)]
    [InlineData("q35", LabBus.VirtioBlk, LabDiskFormat.Raw, true)]
    [InlineData("pc", LabBus.Ide, LabDiskFormat.Qcow2, false)]
    public async Task Boots_from_every_bus_and_format(string machine, LabBus bus, LabDiskFormat format, bool ioThread)
    {
        var disks = LabVmOptions.GuestDisks(await LabGuest.GetAsync(Token), bus, format, ioThread);
        await using var vm = await LabVm.BootAsync(new LabVmOptions { Machine = machine, Disks = disks, FromItsFirmware = true }, Token);

        var mounts = (await vm.ExecAsync("grep -c ext4 /proc/mounts", cancellationToken: Token)).EnsureSuccess();
        Assert.Equal("2\n", mounts);
        var nodes = await vm.QmpAsync("query-named-block-nodes", """{"flat":true}""", Token);
        var root = nodes.EnumerateArray().Single(n => n.GetProperty("node-name").GetString() == "root");
        Assert.Equal(LabDisk.NameOf(format), root.GetProperty("drv").GetString());
        await vm.QmpAsync("qom-get", new JsonObject { ["path"] = "/machine/peripheral/disk-data", ["property"] = "type" }.ToJsonString(), Token);
    }

    [Fact]
    public async Task Disposal_ends_the_process_and_removes_the_directory()
    {
        LabVm vm;
        await using (vm = await LabVm.StartAsync(cancellationToken: Token))
        {
            Assert.True(Directory.Exists($"/proc/{vm.Pid}"));
            var commandLine = (await File.ReadAllTextAsync($"/proc/{vm.Pid}/cmdline", Token)).TrimEnd('\0').Split('\0');
            Assert.Equal(vm.Arguments, commandLine[1..]);
        }
        Assert.False(Directory.Exists(vm.Directory));
        Assert.Throws<InvalidOperationException>(() => vm.Pid);
    }

    [Fact]
    public async Task A_monitor_that_does_not_answer_is_not_waited_for_without_end()
    {
        await using var vm = await LabVm.StartAsync(cancellationToken: Token);
        await using var monitor = await LabMonitor.ConnectAsync(vm.QmpPath, Token);
        monitor.AnswerLimit = TimeSpan.FromSeconds(3);
        Assert.True((await monitor.ExecuteAsync("query-status", cancellationToken: Token)).GetProperty("running").GetBoolean());
        await Proc.CheckAsync("kill", ["-STOP", $"{vm.Pid}"], cancellationToken: Token);
        var thrown = await Assert.ThrowsAsync<TimeoutException>(() => monitor.ExecuteAsync("query-block", cancellationToken: Token));
        Assert.Contains("query-block", thrown.Message, StringComparison.Ordinal);
    }
}
