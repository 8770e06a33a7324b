using System.Diagnostics;
using System.Runtime.Versioning;
using System.Text;
using VirtBackup.Core;
using VirtBackup.Hypervisors.Guests;
using VirtBackup.Hypervisors.Moving;
using VirtBackup.Hypervisors.Qemu;
using VirtBackup.Testing.Lab;

namespace VirtBackup.Hypervisors.Tests.Qemu;

/// <summary>Starting and retiring machines, with programs in QEMU's place.</summary>
public sealed class MachineControlTests : IDisposable
{
    private readonly LabDirectory scratch = new();
    private readonly Id16 id = CaptureLab.NewPoint();

    [Fact]
    [SupportedOSPlatform("linux")]
    public async Task A_machine_starts_on_its_moved_disks_and_what_does_not_come_up_is_ended()
    {
        LeaveMove(MoveStage.Settled);
        var program = scratch.File("program");
        await File.WriteAllTextAsync(program, $"#!/bin/sh\necho $$ \"$@\" > {scratch.File("started")}\nexec sleep 600\n");
        File.SetUnixFileMode(program, UnixFileMode.UserRead | UnixFileMode.UserExecute);
        Remember(program, "-incoming", "defer", "-S", "-daemonize", "-loadvm", "saved", "-m", "64");

        var fault = await Assert.ThrowsAsync<FaultException>(async () => await Driver().Control.StartAsync(id, default));
        Assert.Equal(FaultReason.HypervisorUnavailable, fault.Reason);
        var started = (await File.ReadAllTextAsync(scratch.File("started"))).TrimEnd().Split(' ', 2);
        Assert.Equal($"-drive file={New},format=raw,id=disk -m 64", started[1]);
        Assert.False(Directory.Exists($"/proc/{started[0]}"));
        Assert.False(File.Exists(Old));
    }

    [Fact]
    public async Task The_disks_that_are_retired_are_those_of_the_last_move()
    {
        LeaveMove(MoveStage.Settled);
        Remember("/bin/false");
        var retired = await Driver().Control.RetireAsync(id, new RetireRequest(Delete: false, Undo: false, ""), default);
        Assert.Equal([New + ".virtbackup-retired"], retired.Kept);
        Assert.False(File.Exists(Old));
    }

    [Fact]
    public async Task The_disks_of_a_retired_machine_that_runs_all_the_same_are_not_deleted()
    {
        LeaveMove(MoveStage.Settled);
        Remember("/bin/false");
        await Driver().Control.RetireAsync(id, new RetireRequest(Delete: false, Undo: false, ""), default);
        var program = scratch.File("qemu-system-lab");
        File.CreateSymbolicLink(program, "/bin/sh");
        using (var process = Process.Start(new ProcessStartInfo(program, ["-c", $"exec 3<{New}.virtbackup-retired && echo open && read end", "-uuid", id.ToUuidString()])
        {
            RedirectStandardInput = true, RedirectStandardOutput = true,
        })!)
        {
            await process.StandardOutput.ReadLineAsync(TestContext.Current.CancellationToken);
            var fault = await Assert.ThrowsAsync<FaultException>(async () => await Driver().Control.RetireAsync(id, new RetireRequest(Delete: true, Undo: false, ""), default));
            Assert.Contains($"pid {process.Id}", fault.Message, StringComparison.Ordinal);
            process.StandardInput.Close();
            await process.WaitForExitAsync(TestContext.Current.CancellationToken);
        }
        Assert.Equal([New + ".virtbackup-retired"], (await Driver().Control.RetireAsync(id, new RetireRequest(Delete: true, Undo: false, ""), default)).Removed);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_machine_that_came_here_is_started_on_its_disks_wherever_they_moved_and_with_its_TPM(bool isWritable)
    {
        LeaveMove(MoveStage.Settled);
        LastSeen.Write(scratch.File("state"), id, new ArgvDocument("/bin/false", "/",
            ["-drive", $"file={Old},format=raw,id=disk", "-chardev", $"socket,id=tpm,path={scratch.File("tpm.sock")}", "-tpmdev", "emulator,id=tpm0,chardev=tpm", "-device", "tpm-crb,tpmdev=tpm0"],
            [new ArgvDisk(id.ToString(), "disk", Old, "raw", true)], Socket, null, new ArgvTpm(scratch.File("tpm"), ["socket", "--tpm2"])).Write());
        // Neither the old place nor the new one.
        var script = scratch.File("came/launch.sh");
        if (isWritable)
        {
            Directory.CreateDirectory(scratch.File("came"));
            await File.WriteAllTextAsync(script, $"stale: {Old}");
        }
        var records = new MovingRecords(scratch.File("state"));
        records.Write(new AdoptedMachine(id.ToString(), "lab", scratch.File("came"), Complete: true, Socket, null, script, scratch.File("came/qemu.log"), null, []));
        await Driver().ReleaseGuestsAsync(default);
        Assert.False(File.Exists(Old));
        var adopted = records.FindAdopted(id)!;
        Assert.Equal(isWritable ? script : scratch.File($"state/start-{id}.sh"), adopted.Script);
        var text = await File.ReadAllTextAsync(adopted.Script);
        Assert.Contains($"file={New},", text, StringComparison.Ordinal);
        Assert.DoesNotContain(Old, text, StringComparison.Ordinal);
        Assert.Contains($"swtpm 'socket' '--tpm2' '--tpmstate' 'dir={scratch.File("tpm")},mode=0600'", text, StringComparison.Ordinal);
    }

    [Fact]
    [SupportedOSPlatform("linux")]
    public async Task A_full_storage_of_old_launch_records_keeps_nobody_from_finishing_a_move()
    {
        LeaveMove(MoveStage.Settled);
        Remember("/bin/false");
        await File.WriteAllTextAsync(scratch.File("launch.json"), id.ToUuidString());
        File.CreateSymbolicLink(scratch.File("launch.sh.partial"), "/dev/full");
        await Driver().ReleaseGuestsAsync(default);
        Assert.False(File.Exists(Old));
        Assert.Empty(Directory.GetFiles(scratch.Path, "launch.*"));
        Assert.True(File.Exists(scratch.File("lab.launch.sh")));
    }

    [Fact]
    public async Task A_stop_that_fails_leaves_the_guests_own_shutdown_as_it_was()
    {
        await using var monitor = new ScriptedMonitor(Socket, (command, _) => command switch
        {
            "query-uuid" => $$"""{"UUID":"{{id.ToUuidString()}}"}""",
            "query-status" => """{"status":"running"}""",
            "system_powerdown" => null,
            _ => "{}",
        });
        var fault = await Assert.ThrowsAsync<FaultException>(async () => await Driver().Control.StopAsync(id, new StopRequest(TimeSpan.FromSeconds(5), Force: false, PowerOff: false), default));
        Assert.Contains("refused by the test", fault.Message, StringComparison.Ordinal);
        Assert.Equal(["""set-action {"shutdown":"pause"}""", """set-action {"shutdown":"poweroff"}"""], monitor.Asked.Where(static line => line.StartsWith("set-action", StringComparison.Ordinal)));
    }

    [Theory]
    [InlineData("adopted")]
    [InlineData("retired")]
    public async Task A_record_that_cannot_be_read_takes_its_own_machine_out_of_service_only(string kind)
    {
        var other = CaptureLab.NewPoint();
        var driver = new QemuHypervisor([new QemuMachine(id, "lab", Socket), new QemuMachine(other, "other", Socket)],
            new QemuOptions(scratch.File("fleece")) { StateFolder = scratch.File("state") }, TimeProvider.System, SystemEntropy.Instance);
        await File.WriteAllTextAsync(Path.Combine(Directory.CreateDirectory(scratch.File("state")).FullName, $"{kind}-{other}.json"), "{");
        await driver.ReleaseGuestsAsync(default);
        Assert.Equal(id, Assert.Single(await driver.ListMachinesAsync(default)).Id);
        var fault = await Assert.ThrowsAsync<FaultException>(async () => await driver.ListTrackedPointsAsync(other, default));
        Assert.Contains($"{kind}-{other}.json cannot be read", fault.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_move_is_not_ended_while_a_process_holds_the_disks_though_nobody_listens()
    {
        LeaveMove(MoveStage.Copying);
        Remember("/bin/false");
        var program = scratch.File("qemu-system-lab");
        File.CreateSymbolicLink(program, "/bin/sh");
        using (var process = Process.Start(new ProcessStartInfo(program, ["-c", "read end", $"unix:{Socket},server=on"]) { RedirectStandardInput = true })!)
        {
            foreach (var use in new Func<Task>[] { StartAsync, async () => await Driver().SettleAsync(id, new HashSet<Id16>(), default) })
            {
                var fault = await Assert.ThrowsAsync<FaultException>(use);
                Assert.Equal(FaultReason.HypervisorUnavailable, fault.Reason);
                Assert.Contains($"pid {process.Id}", fault.Message, StringComparison.Ordinal);
            }
            Assert.True(File.Exists(New));
            var marks = new FreezeMarks(scratch.Path);
            marks.Set(FreezeMarks.Stopped);
            Assert.Equal(ReleaseOutcome.Again, await new QemuGuestRelease(TimeProvider.System, SystemEntropy.Instance)
                .TryReleaseAsync(QemuGuestRelease.TargetOf(new QemuMachine(id, "lab", Socket), scratch.Path), static _ => { }, default));
            Assert.True(marks.Has(FreezeMarks.Stopped));
            process.StandardInput.Close();
            await process.WaitForExitAsync(TestContext.Current.CancellationToken);
        }
        await Assert.ThrowsAsync<FaultException>(StartAsync);
        Assert.Equal((true, false), (File.Exists(Old), File.Exists(New)));
    }

    [Theory]
    [InlineData("running", true)]
    [InlineData("suspended", true)]
    [InlineData("inmigrate", false)]
    [InlineData("restore-vm", false)]
    public async Task A_machine_is_running_only_in_a_state_in_which_its_guest_is(string state, bool running)
    {
        await using var monitor = new FakeMonitor(Socket, Encoding.UTF8.GetBytes("""{"QMP":{"version":{"qemu":{"micro":22,"minor":2,"major":7},"package":""},"capabilities":[]}}""" + "\n"),
        [
            Encoding.UTF8.GetBytes("""{"return":{},"id":"1"}""" + "\n"),
            Encoding.UTF8.GetBytes($$$"""{"return":{"UUID":"{{{id.ToUuidString()}}}"},"id":"2"}""" + "\n"),
            Encoding.UTF8.GetBytes($$$"""{"return":{"status":"{{{state}}}"},"id":"3"}""" + "\n"),
        ]);
        if (running)
        {
            Assert.True(await Driver().Control.StartAsync(id, default));
            return;
        }
        var fault = await Assert.ThrowsAsync<FaultException>(StartAsync);
        Assert.Contains($"'{state}'", fault.Message, StringComparison.Ordinal);
    }

    public void Dispose() => scratch.Dispose();

    private string Old => scratch.File("old.raw");

    private string New => scratch.File("new.raw");

    private string Socket => scratch.File("qmp.sock");

    private QemuHypervisor Driver() => new([new QemuMachine(id, "lab", Socket)],
        new QemuOptions(scratch.File("fleece")) { StateFolder = scratch.File("state"), LaunchTimeout = TimeSpan.FromMilliseconds(600) }, TimeProvider.System, SystemEntropy.Instance);

    private async Task StartAsync() => await Driver().Control.StartAsync(id, default);

    private void Remember(string program, params string[] more) => LastSeen.Write(scratch.File("state"), id,
        new ArgvDocument(program, "/", ["-drive", $"file={Old},format=raw,id=disk", .. more], [new ArgvDisk(id.ToString(), "disk", Old, "raw", true)], Socket, null).Write());

    /// <summary>A move whose agent was killed.</summary>
    private void LeaveMove(MoveStage stage)
    {
        var disk = new MovingDisk("disk", Old, New, "raw", "raw", "node", "job");
        var journal = MoveJournal.Begin(scratch.File("state"), id, "lab", "tag", keepSource: false, [disk], []);
        File.WriteAllText(Old, "old");
        File.WriteAllText(New, "new");
        journal.Reserve(new HashSet<string> { New });
        journal.Enter(stage, [.. journal.Disks.Select(made => made with { Moved = stage == MoveStage.Settled })]);
    }
}
