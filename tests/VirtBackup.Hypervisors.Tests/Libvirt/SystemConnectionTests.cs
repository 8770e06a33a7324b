using System.Text;
using VirtBackup.Core;
using VirtBackup.Hypervisors.Guests;
using VirtBackup.Testing.Lab;

namespace VirtBackup.Hypervisors.Tests.Libvirt;

/// <summary>
/// A system's connection: the daemon is root's and its machines run as another user, who must reach what the agent makes, and
/// no more than that. The daemon is private; in a mount namespace its folders cover the machine's.
/// </summary>
public class SystemConnectionTests
{
    private const string Writer = ": > /run/writing; (while [ -e /run/writing ]; do dd if=/dev/zero of=/data/w bs=4k count=1 conv=notrunc,fsync; sleep 0.02; done) </dev/null >/dev/null 2>&1 &";

    private const string AgentPid = "$(ps | grep '[o]rg.qemu.guest_agent.0' | awk '{print $1}')";

    [Fact]
    public async Task A_machine_of_another_user_is_captured_with_its_hooks_measured_and_restored_into_a_storage_pool()
    {
        Assert.SkipUnless(Environment.UserName == "root", "A system's daemon takes root.");
        await using var lab = await LibvirtLab.BootAsync(isSystem: true);
        var status = await File.ReadAllTextAsync($"/proc/{lab.Domain.Pid}/status");
        Assert.Contains($"Uid:\t{LabLibvirt.QemuUid}\t", status, StringComparison.Ordinal);

        var (first, second) = (LibvirtLab.NewPoint(), LibvirtLab.NewPoint());
        await RequireHooksAsync(lab, first);
        await RequireMeasuredAsync(lab);
        (await lab.Domain.ExecAsync("rm /run/writing; echo marker > /root/marker && sync")).EnsureSuccess();
        var (_, reasons) = await lab.BackUpAsync(second, first);
        Assert.All(reasons.Values, reason => Assert.Equal("changed blocks only", reason));
        await lab.AssertCleanAsync();

        await RequireSilentAgentBorneAsync(lab, second);

        var pool = Directory.CreateDirectory(lab.Libvirt.File("pool")).FullName;
        await lab.Libvirt.VirshAsync("pool-create-as", "images", "dir", "--target", pool);
        await using var capture = await lab.Driver.BeginCaptureAsync(lab.Request(LibvirtLab.NewPoint(), second), default);
        var copy = await lab.RestoreAsync(lab.RestoreRequest(capture, second, pool, "copy"));
        Assert.True(copy.Running);
        await capture.AbandonAsync(default);
        Assert.Equal("marker\n", Encoding.UTF8.GetString(await LibvirtLab.ReadFileAsync(Path.Combine(pool, "lab.qga"), "/root/marker")));
        var volumes = await lab.Libvirt.VirshAsync("vol-list", "images");
        Assert.All(copy.Details.Where(detail => detail.Key.StartsWith("disk ", StringComparison.Ordinal)), disk => Assert.Contains(disk.Value, volumes, StringComparison.Ordinal));
    }

    private static async Task RequireHooksAsync(LibvirtLab lab, Id16 point)
    {
        var log = new List<string>();
        GuestHooks Hooks(string before, bool abort = false) => new(
            new GuestCommand(["/bin/sh", "-c", before], TimeSpan.FromSeconds(30)), new GuestCommand(["/bin/sh", "-c", "echo after >> /run/hooks"], TimeSpan.FromSeconds(30)), abort);
        // The freeze itself is slow on an emulated processor.
        var request = lab.Request(point) with { Hooks = Hooks("echo before >> /run/hooks; echo flushed"), Log = log.Add, QuiesceTimeout = TimeSpan.FromSeconds(30) };
        await using (var capture = await lab.Driver.BeginCaptureAsync(request, default))
        {
            Assert.Equal(CaptureConsistency.Application, capture.Consistency);
            Assert.Matches("^2 file systems were frozen for [0-9]+ ms; freezing them had taken [0-9]+ ms\\.$", capture.ConsistencyDetail);
            await lab.ReadAsync(capture);
            await capture.CommitAsync(default);
        }
        Assert.Contains("Hook before the freeze said: flushed", log);
        Assert.Equal("before\nafter\n", (await lab.Domain.ExecAsync("cat /run/hooks")).Stdout);
        var failing = request with { Point = LibvirtLab.NewPoint(), Hooks = Hooks("exit 3", abort: true) };
        var fault = await Assert.ThrowsAsync<FaultException>(async () => await lab.Driver.BeginCaptureAsync(failing, default));
        Assert.Contains("ended with exit code 3", fault.Message, StringComparison.Ordinal);
        Assert.Equal("before\nafter\nafter\n", (await lab.Domain.ExecAsync("cat /run/hooks")).Stdout);
        await lab.AssertCleanAsync();
    }

    /// <summary>A guest agent that hangs costs its time limit; what it does late is undone, and the guest writes.</summary>
    private static async Task RequireSilentAgentBorneAsync(LibvirtLab lab, Id16 basis)
    {
        (await lab.Domain.ExecAsync($"kill -STOP {AgentPid}")).EnsureSuccess();
        await using (var capture = await lab.Driver.BeginCaptureAsync(lab.Request(LibvirtLab.NewPoint(), basis) with { QuiesceTimeout = TimeSpan.FromSeconds(1) }, default))
        {
            Assert.Equal(CaptureConsistency.Crash, capture.Consistency);
            Assert.Contains("did not answer 'guest-fsfreeze-freeze' within 1 s", capture.ConsistencyDetail, StringComparison.Ordinal);
            (await lab.Domain.ExecAsync($"kill -CONT {AgentPid}; echo late > /data/late && sync")).EnsureSuccess();
            await capture.AbandonAsync(default);
        }
        Assert.Equal(basis, await lab.Driver.SettleAsync(lab.Machine, new HashSet<Id16> { basis }, default));
        (await lab.Domain.ExecAsync("echo later > /data/late && sync")).EnsureSuccess();
        await lab.AssertCleanAsync();
    }

    private static async Task RequireMeasuredAsync(LibvirtLab lab)
    {
        (await lab.Domain.ExecAsync(Writer)).EnsureSuccess();
        var options = lab.Options;
        foreach (var byMonitor in new[] { true, false })
        {
            lab.Options = options with { MonitorCommands = byMonitor };
            await using var meter = await lab.NewDriver().OpenWriteMeterAsync(lab.Machine, default);
            var opened = await meter!.ReadAsync(default);
            await Task.Delay(500);
            var seen = (await meter.ReadAsync(default)).Since(opened);
            Assert.True(seen is { Operations: > 3, TotalNs: > 0 }, $"{seen}");
            Assert.Equal(byMonitor, seen.Quantile(0.5) is { Ticks: > 0 });
            Assert.Equal(byMonitor, meter.Shortcoming is null);
        }
        lab.Options = options;
        lab.NewDriver();
    }
}
