using System.Net.Sockets;
using VirtBackup.Core;
using VirtBackup.Testing.Lab;

namespace VirtBackup.Hypervisors.Tests.Qemu;

/// <summary>Machines that must not be captured, or not like that; the guest's system need not be up for it.</summary>
public sealed class RefusalTests
{
    [Fact]
    public async Task A_disk_with_an_io_thread_is_refused_and_the_machine_left_alone()
    {
        var guest = await LabGuest.GetAsync();
        foreach (var bus in new[] { LabBus.VirtioBlk, LabBus.VirtioScsi })
        {
            await using var lab = await CaptureLab.StartAsync(new LabVmOptions { Disks = LabVmOptions.GuestDisks(guest, bus, ioThread: true) });
            var before = (await lab.Vm.QmpAsync("query-named-block-nodes")).GetArrayLength();
            var fault = await Assert.ThrowsAsync<FaultException>(async () => await lab.Driver.BeginCaptureAsync(lab.Request(CaptureLab.NewPoint()), default));
            Assert.Equal(FaultReason.Unsupported, fault.Reason);
            Assert.Contains("I/O thread", fault.Message, StringComparison.Ordinal);
            Assert.Contains("I/O thread", Assert.Single(await lab.Driver.ListMachinesAsync(default)).Problem, StringComparison.Ordinal);
            var plan = await lab.Driver.PlanCaptureAsync(lab.Request(CaptureLab.NewPoint()), default);
            Assert.All(plan.Disks, disk => Assert.Contains("I/O thread", disk.Reason, StringComparison.Ordinal));
            Assert.Equal(before, (await lab.Vm.QmpAsync("query-named-block-nodes")).GetArrayLength());
            await lab.AssertCleanAsync();
        }
    }

    [Fact]
    public async Task A_monitor_in_other_hands_or_of_another_machine_is_refused()
    {
        await using var lab = await CaptureLab.StartAsync();
        lab.Options = lab.Options with { GreetingTimeout = TimeSpan.FromMilliseconds(300) };
        await using (await LabMonitor.ConnectAsync(lab.Vm.QmpPath))
        {
            var busy = await Assert.ThrowsAsync<FaultException>(async () => await lab.Driver.BeginCaptureAsync(lab.Request(CaptureLab.NewPoint()), default));
            Assert.Equal(FaultReason.HypervisorUnavailable, busy.Reason);
            Assert.Contains("another program", busy.Message, StringComparison.Ordinal);
            Assert.Contains("another program", Assert.Single(await lab.Driver.ListMachinesAsync(default)).Problem, StringComparison.Ordinal);
        }
        lab.Options = lab.Options with { GreetingTimeout = TimeSpan.FromSeconds(5) };
        Assert.Null(Assert.Single(await lab.Driver.ListMachinesAsync(default)).Problem);

        var right = lab.Machine;
        lab.Machine = right with { Uuid = CaptureLab.NewPoint() };
        var wrong = await Assert.ThrowsAsync<FaultException>(async () => await lab.Driver.BeginCaptureAsync(lab.Request(CaptureLab.NewPoint()), default));
        Assert.Equal(FaultReason.FailedPrecondition, wrong.Reason);
        Assert.Contains(lab.Vm.Uuid.ToString(), wrong.Message, StringComparison.Ordinal);

        lab.Machine = right with { QmpSocket = lab.Scratch.File("nobody.sock") };
        var nobody = await Assert.ThrowsAsync<FaultException>(async () => await lab.Driver.ListTrackedPointsAsync(lab.Machine.Uuid, default));
        Assert.Equal(FaultReason.HypervisorUnavailable, nobody.Reason);
        Assert.Contains("nobody.sock", nobody.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Another_tools_export_is_respected()
    {
        await using var lab = await CaptureLab.StartAsync();
        var theirs = lab.Scratch.File("theirs.sock");
        await lab.Vm.QmpAsync("nbd-server-start", "{\"addr\":{\"type\":\"unix\",\"data\":{\"path\":\"" + theirs + "\"}}}");
        await lab.Vm.QmpAsync("block-export-add", """{"type":"nbd","id":"theirs","node-name":"root","name":"theirs"}""");
        await lab.Vm.QmpAsync("block-dirty-bitmap-add", """{"node":"root","name":"theirs"}""");
        var fault = await Assert.ThrowsAsync<FaultException>(async () => await lab.Driver.BeginCaptureAsync(lab.Request(CaptureLab.NewPoint()), default));
        Assert.Contains("another tool", fault.Message, StringComparison.Ordinal);
        await lab.Driver.SettleAsync(lab.Machine.Uuid, new HashSet<Id16>(), default);
        Assert.Empty(await lab.Driver.ListTrackedPointsAsync(lab.Machine.Uuid, default));
        Assert.Equal("theirs", Assert.Single((await lab.Vm.QmpAsync("query-block-exports")).EnumerateArray()).GetProperty("id").GetString());
        Assert.Contains("theirs", (await lab.Vm.QmpAsync("query-block")).GetRawText(), StringComparison.Ordinal);
        using var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        await socket.ConnectAsync(new UnixDomainSocketEndPoint(theirs));
        Assert.Equal("running", (await lab.Vm.QmpAsync("query-status")).GetProperty("status").GetString());
    }

    [Fact]
    public async Task A_silent_or_absent_guest_agent_makes_a_crash_consistent_capture_that_says_so()
    {
        await using var lab = await CaptureLab.StartAsync();
        lab.Options = lab.Options with { GuestAgentTimeout = TimeSpan.FromMilliseconds(200) };
        await lab.Vm.QmpAsync("system_reset"); // whatever has booted already: there is no agent now
        await using (var silent = await lab.Driver.BeginCaptureAsync(lab.Request(CaptureLab.NewPoint()), default))
        {
            Assert.Equal(CaptureConsistency.Crash, silent.Consistency);
            Assert.Contains("did not answer", silent.ConsistencyDetail, StringComparison.Ordinal);
        }
        lab.Machine = lab.Machine with { GuestAgentSocket = lab.Scratch.File("none.sock") };
        await using (var absent = await lab.Driver.BeginCaptureAsync(lab.Request(CaptureLab.NewPoint()), default))
        {
            Assert.Equal(CaptureConsistency.Crash, absent.Consistency);
            Assert.Contains("none.sock", absent.ConsistencyDetail, StringComparison.Ordinal);
        }
        await using (var unwanted = await lab.Driver.BeginCaptureAsync(lab.Request(CaptureLab.NewPoint()) with { Quiesce = false }, default))
        {
            Assert.Contains("as asked for", unwanted.ConsistencyDetail, StringComparison.Ordinal);
        }
        Assert.Equal("running", (await lab.Vm.QmpAsync("query-status")).GetProperty("status").GetString());
        await lab.AssertCleanAsync();
    }

    [Fact]
    public async Task A_frozen_guest_is_thawed_even_when_its_agent_answers_too_late()
    {
        using var folder = new LabDirectory();
        await using var agent = new FakeGuestAgent(folder.File("agent.sock"), freezeAnswers: false);
        await using var lab = await CaptureLab.StartAsync();
        lab.Machine = lab.Machine with { GuestAgentSocket = agent.SocketPath };
        await using var capture = await lab.Driver.BeginCaptureAsync(
            lab.Request(CaptureLab.NewPoint()) with { QuiesceTimeout = TimeSpan.FromMilliseconds(200) }, default);
        Assert.Equal(CaptureConsistency.Crash, capture.Consistency);
        Assert.Contains("guest-fsfreeze-freeze", capture.ConsistencyDetail, StringComparison.Ordinal);
        await agent.ThawAsked.WaitAsync(TimeSpan.FromSeconds(10));
    }

    [Fact]
    public async Task All_ways_to_attach_a_disk_are_captured_and_what_is_no_disk_is_skipped_with_its_reason()
    {
        using var folder = new LabDirectory();
        var guest = await LabGuest.GetAsync();
        var (ide, medium, spare) = (folder.File("ide.raw"), folder.File("cd.iso"), folder.File("spare.qcow2"));
        await LabDisk.CreateRandomAsync(ide, LabDiskFormat.Raw, 3 << 20, 1);
        await LabDisk.CreateRandomAsync(medium, LabDiskFormat.Raw, 1 << 20, 2);
        await LabDisk.CreateRandomAsync(spare, LabDiskFormat.Qcow2, 5 << 20, 3);
        await using var lab = await CaptureLab.StartAsync(new LabVmOptions
        {
            Machine = "pc",
            Disks = LabVmOptions.GuestDisks(guest, LabBus.VirtioScsi),
            ExtraArguments =
            [
                "-drive", $"file={ide},format=raw,if=ide,index=0", "-drive", $"file={medium},media=cdrom,index=2", "-drive", $"file={spare},if=virtio,format=qcow2",
                "-drive", "if=none,id=loose,file.driver=null-co,driver=raw", "-device", "ide-cd,bus=ide.1,unit=1",
            ],
        });
        await lab.Vm.QmpAsync("stop");
        var request = lab.Request(CaptureLab.NewPoint()) with { ExcludedDisks = new HashSet<string> { "disk-data" } };
        await using var capture = await lab.Driver.BeginCaptureAsync(request, default);
        await lab.ReadAsync(capture);
        var names = capture.Disks.ToDictionary(disk => disk.Disk.Name);
        Assert.Equal(["disk-root", "ide0-hd0", "virtio0"], names.Keys.Order());
        Assert.Equal(await File.ReadAllBytesAsync(ide), lab.Keep()["ide0-hd0"]);
        Assert.Equal(await LabDisk.Sha256Async(spare, LabDiskFormat.Qcow2, inUse: true),
            Convert.ToHexStringLower(System.Security.Cryptography.SHA256.HashData(lab.Keep()["virtio0"])));
        Assert.Equal(["it is excluded", "it is not attached to a device", "it is read-only"], capture.SkippedDisks.Select(disk => disk.SkipReason).Order());
        await capture.CommitAsync(default);
        Assert.Equal("paused", (await lab.Vm.QmpAsync("query-status")).GetProperty("status").GetString());
        await lab.AssertCleanAsync();

        // A disk that the base did not hold is read in full beside increments of the others.
        var plan = await lab.Driver.PlanCaptureAsync(lab.Request(CaptureLab.NewPoint(), request.Point), default);
        Assert.Equal(["disk-data"], plan.Disks.Where(disk => disk.Disk.SkipReason is null && !disk.ChangedOnly).Select(disk => disk.Disk.Name));
    }
}
