using System.Text.Json;
using VirtBackup.Core;
using VirtBackup.Testing.Lab;

namespace VirtBackup.Hypervisors.Tests.Qemu;

/// <summary>Restores in the place of a machine that is off, and the memory of its firmware.</summary>
public sealed class InPlaceTests
{
    private const int DiskBytes = 8 << 20;
    private static readonly string[] Standing = ["-S"];

    [Fact]
    public async Task The_changes_of_a_machine_that_is_off_are_known_unless_it_was_killed()
    {
        await using var lab = await StartAsync();
        var (point, request) = await CaptureAsync(lab);
        await WriteAsync(lab, 1 << 20, 64 << 10);
        var running = Assert.Single(await lab.Driver.CheckRestoreAsync(request, default), finding => finding is { Severity: FindingSeverity.Blocks, Item: "identity" });
        Assert.Contains("is running", running.Message, StringComparison.Ordinal);
        await lab.Vm.QuitAsync();

        Assert.DoesNotContain(await lab.Driver.CheckRestoreAsync(request, default), finding => finding.Severity == FindingSeverity.Blocks);
        await using (var restore = await lab.Driver.BeginRestoreAsync(request, default))
        {
            var (qcow2, raw) = ((IExistingDisk)restore.Disks[0], (IExistingDisk)restore.Disks[1]);
            Assert.Equal(point, qcow2.TrackedSince);
            Assert.Equal([new ByteRange(1 << 20, 64 << 10)], qcow2.ChangedExtents);
            Assert.Null(raw.TrackedSince);
            await qcow2.WriteAsync(3 << 20, new byte[] { 1 }, default);
            var machine = await restore.CompleteAsync(default);
            Assert.Equal((lab.Machine.Uuid, false), (machine.Id, machine.Running));
            Assert.Equal(machine.CapturedDescription!.Value.GetRawText(), machine.Description!.Value.GetRawText());
        }

        // What was written here is a change since the point, too; and it is started as it was.
        await using (var again = await lab.Driver.BeginRestoreAsync(request, default))
        {
            Assert.Equal([new ByteRange(1 << 20, 64 << 10), new ByteRange(3 << 20, 64 << 10)], ((IExistingDisk)again.Disks[0]).ChangedExtents);
        }
        await lab.Vm.StartAgainAsync();
        await lab.Vm.KillAsync();
        await using var killed = await lab.Driver.BeginRestoreAsync(request, default);
        Assert.Null(((IExistingDisk)killed.Disks[0]).TrackedSince);
        Assert.Contains("not shut down cleanly", ((IExistingDisk)killed.Disks[0]).TrackingDetail, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_machine_that_does_not_start_is_not_replaced()
    {
        await using var lab = await StartAsync();
        var (_, request) = await CaptureAsync(lab);
        await lab.Vm.QuitAsync();
        var before = await Task.WhenAll(lab.Vm.Disks.Select(disk => LabDisk.Sha256Async(disk.Path, disk.Format)));
        var broken = request with { Placement = RestorePlacement.Replace, Start = true, Configuration = WithArgument(request.Configuration, "-smbios", "type=999") };
        await using (var restore = await lab.Driver.BeginRestoreAsync(broken, default))
        {
            await restore.Disks[0].WriteAsync(0, new byte[] { 5 }, default);
            var fault = await Assert.ThrowsAsync<FaultException>(async () => await restore.CompleteAsync(default));
            Assert.Contains("in their places again", fault.Message, StringComparison.Ordinal);
        }
        Assert.Equal(before, await Task.WhenAll(lab.Vm.Disks.Select(disk => LabDisk.Sha256Async(disk.Path, disk.Format))));
        Assert.DoesNotContain(Directory.EnumerateFiles(lab.Vm.Directory), path => path.Contains("virtbackup", StringComparison.Ordinal));

        await using (var restore = await lab.Driver.BeginRestoreAsync(request with { Placement = RestorePlacement.Replace }, default))
        {
            await restore.Disks[0].WriteAsync(0, new byte[] { 5 }, default);
            await restore.CompleteAsync(default);
        }
        Assert.NotEqual(before[0], await LabDisk.Sha256Async(lab.Vm.Disks[0].Path, lab.Vm.Disks[0].Format));
        Assert.DoesNotContain(Directory.EnumerateFiles(lab.Vm.Directory), path => path.Contains("virtbackup", StringComparison.Ordinal));
    }

    [Fact]
    public async Task The_small_memories_of_firmware_and_tpm_travel_with_the_configuration()
    {
        using var folder = new LabDirectory();
        var variables = folder.File("vars.fd");
        var bytes = new byte[128 << 10];
        new Random(4).NextBytes(bytes);
        await File.WriteAllBytesAsync(variables, bytes);
        await using var tpm = await LabTpm.StartAsync();
        await using var lab = await StartAsync([.. tpm.Arguments,
            "-drive", "if=pflash,unit=0,format=raw,readonly=on,file=/usr/share/seabios/bios-256k.bin", "-drive", $"if=pflash,unit=1,format=raw,file={variables}"]);
        // No guest boots from such variables, so that nobody answers a thaw.
        lab.Options = lab.Options with { GuestStartTimeout = TimeSpan.FromSeconds(1) };
        var point = CaptureLab.NewPoint();
        RestoreRequest request;
        await using (var capture = await lab.Driver.BeginCaptureAsync(lab.Request(point), default))
        {
            Assert.Equal([MachineContentKind.Nvram, MachineContentKind.Tpm], capture.Contents.Select(content => content.Kind));
            var content = capture.Contents[0];
            Assert.Equal(bytes, content.Bytes.ToArray());
            Assert.Equal(2, capture.Disks.Count);
            request = lab.RestoreRequest(capture, point, lab.Scratch.File("new"), "new") with { Start = true, Contents = capture.Contents };
        }
        // The guest's own firmware changed them since.
        await File.WriteAllBytesAsync(variables, new byte[bytes.Length]);
        await using var restore = await lab.Driver.BeginRestoreAsync(request, default);
        var machine = await restore.CompleteAsync(default);
        try
        {
            var restored = Assert.Single(Directory.EnumerateFiles(lab.Scratch.File("new"), "*.fd"));
            Assert.Equal(bytes, await File.ReadAllBytesAsync(restored));
            await using var monitor = await LabMonitor.ConnectAsync(machine.Details["qmp socket"]);
            Assert.Contains(restored, (await monitor.ExecuteAsync("query-block")).GetRawText(), StringComparison.Ordinal);
        }
        finally
        {
            await Proc.RunAsync("kill", ["-KILL", machine.Details["pid"]]);
        }
        await RestoreInPlaceAsync(lab, tpm, request, variables, bytes);
    }

    // What does not differ on disks is not written; the small memories are, and marked until they are whole.
    private static async Task RestoreInPlaceAsync(CaptureLab lab, LabTpm tpm, RestoreRequest request, string variables, byte[] expected)
    {
        request = request with { Folder = "", Name = lab.Vm.Name, Placement = RestorePlacement.InPlace, KeepIdentity = true, Start = false };
        var state = Hypervisors.Tpm.TpmState.Read(request.Contents[1].Bytes).Files[0].Bytes.ToArray();
        var runs = await lab.Driver.CheckRestoreAsync(request, default);
        Assert.Contains(runs, finding => finding is { Severity: FindingSeverity.Blocks, Item: "tpm" } && finding.Message.Contains("still runs", StringComparison.Ordinal));
        await lab.Vm.QuitAsync();
        await tpm.WaitForEndAsync();
        await File.WriteAllBytesAsync(tpm.StatePath, [1]);
        File.Delete(variables);
        Directory.CreateDirectory(variables);
        var mark = Hypervisors.Images.InPlaceMark.PathOf(lab.Vm.Disks[0].Path);
        await using (var failing = await lab.Driver.BeginRestoreAsync(request, default))
        {
            await Assert.ThrowsAsync<FaultException>(async () => await failing.CompleteAsync(default));
        }
        Assert.True(File.Exists(mark));
        Directory.Delete(variables);
        await using (var restore = await lab.Driver.BeginRestoreAsync(request, default))
        {
            await restore.CompleteAsync(default);
        }
        Assert.False(File.Exists(mark));
        Assert.Equal(expected, await File.ReadAllBytesAsync(variables));
        Assert.Equal(state, await File.ReadAllBytesAsync(tpm.StatePath));

        await File.WriteAllBytesAsync(tpm.StatePath, [1]);
        await using (var replace = await lab.Driver.BeginRestoreAsync(request with { Placement = RestorePlacement.Replace }, default))
        {
            await replace.CompleteAsync(default);
        }
        Assert.Equal(state, await File.ReadAllBytesAsync(tpm.StatePath));
        if (!OperatingSystem.IsWindows()) Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(tpm.StatePath));
    }

    private static Task<CaptureLab> StartAsync(params string[] more) => CaptureLab.StartAsync(new LabVmOptions
    {
        Disks =
        [
            new LabDiskOptions { NodeName = "q", Size = DiskBytes },
            new LabDiskOptions { NodeName = "r", Size = DiskBytes, Format = LabDiskFormat.Raw },
        ],
        ExtraArguments = [.. Standing, .. more],
    });

    private static async Task<(Id16 Point, RestoreRequest Request)> CaptureAsync(CaptureLab lab)
    {
        var point = CaptureLab.NewPoint();
        await using var capture = await lab.Driver.BeginCaptureAsync(lab.Request(point), default);
        await capture.CommitAsync(default);
        return (point, lab.RestoreRequest(capture, point, "", lab.Vm.Name) with { Placement = RestorePlacement.InPlace, KeepIdentity = true, Start = false });
    }

    private static async Task WriteAsync(CaptureLab lab, int offset, int length)
    {
        var line = JsonSerializer.Serialize($"qemu-io -d /machine/peripheral/{lab.Vm.Disks[0].DeviceId}/virtio-backend \"write -P 7 {offset} {length}\"");
        Assert.DoesNotContain("rror", (await lab.Vm.QmpAsync("human-monitor-command", $"{{\"command-line\":{line}}}")).GetString(), StringComparison.Ordinal);
    }

    private static MachineConfiguration WithArgument(MachineConfiguration configuration, string name, string value)
    {
        var document = Hypervisors.Qemu.ArgvDocument.Read(configuration.Native.Span);
        return configuration with { Native = (document with { Arguments = [.. document.Arguments, name, value] }).Write() };
    }
}
