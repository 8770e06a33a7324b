using VirtBackup.Hypervisors.Guests;
using VirtBackup.Testing.Lab;
using static VirtBackup.Hypervisors.Tests.Qemu.StartedMachine;

namespace VirtBackup.Hypervisors.Tests.Qemu;

public sealed class RestoreTests
{
    [Fact]
    public async Task A_restored_machine_boots_with_its_data_beside_the_original_and_then_in_its_place()
    {
        await using var tpm = await LabTpm.StartAsync();
        await using var lab = await CaptureLab.BootAsync(new LabVmOptions { ExtraArguments = tpm.Arguments });
        (await lab.Vm.ExecAsync(LabTpm.WriteLine(0x1122334455667788, isNew: true))).EnsureSuccess();
        await lab.Vm.ExecAsync("echo marker-42 > /data/marker; echo root-43 > /root/marker; sync");
        var point = CaptureLab.NewPoint();
        var (capture, reference) = await lab.CutWithReferenceAsync(lab.Request(point));
        RestoreRequest request;
        await using (capture)
        {
            await lab.ReadAsync(capture);
            lab.AssertContent(reference);
            Assert.Equal(MachineContentKind.Tpm, Assert.Single(capture.Contents).Kind);
            Assert.Empty(capture.SkippedDisks);
            request = lab.RestoreRequest(capture, point, lab.Scratch.File("beside"), "copy") with { Contents = capture.Contents };
            await capture.CommitAsync(default);
        }

        (await lab.Vm.ExecAsync(LabTpm.WriteLine(99, isNew: false))).EnsureSuccess();

        var check = await lab.Driver.CheckRestoreAsync(request with { Contents = [.. request.Contents.Select(content => content with { Bytes = default })] }, default);
        Assert.DoesNotContain(check, finding => finding.Severity == FindingSeverity.Blocks);
        Assert.Equal(FindingSeverity.Fits, Assert.Single(check, finding => finding.Item == "tpm").Severity);
        var beside = await lab.RestoreAsync(request);
        try
        {
            Assert.True(beside.Running);
            Assert.NotEqual(lab.Machine.Uuid, beside.Id);
            var limit = TimeSpan.FromSeconds(30);
            Assert.True(await beside.Guest!.AnswersAsync(limit, default));
            Assert.Null(await beside.Guest.RunAsync(new GuestCommand(["/bin/sh", "-c", "test -e /data/marker"], limit), "marker", static _ => { }, default));
            Assert.Contains("3", await beside.Guest.RunAsync(new GuestCommand(["/bin/sh", "-c", "exit 3"], limit), "exit", static _ => { }, default), StringComparison.Ordinal);
            await using var monitor = await LabMonitor.ConnectAsync(beside.Details["qmp socket"]);
            Assert.Equal(beside.Id.ToUuidString(), (await monitor.ExecuteAsync("query-uuid")).GetProperty("UUID").GetString());
            Assert.Equal("copy", (await monitor.ExecuteAsync("query-name")).GetProperty("name").GetString());
            Assert.Equal("marker-42\nroot-43\n", await ShellAsync(beside, "cat /data/marker /root/marker"));
            Assert.NotEqual((await lab.Vm.ExecAsync("cat /sys/class/net/*/address")).EnsureSuccess(), await ShellAsync(beside, "cat /sys/class/net/*/address"));
            // The copy has the TPM of the cut, in a folder that nobody else may enter, and the original has its own.
            Assert.Equal(0x1122334455667788UL, LabTpm.ValueIn(await ShellAsync(beside, LabTpm.ReadLine)));
            Assert.Equal(99UL, LabTpm.ValueIn((await lab.Vm.ExecAsync(LabTpm.ReadLine)).EnsureSuccess()));
            RequirePrivate(beside.Details["tpm state"]);
            // The copy is writable, and the original goes on by itself.
            Assert.Equal("", await ShellAsync(beside, "echo copied > /data/marker && sync"));
            Assert.Equal("marker-42\n", (await lab.Vm.ExecAsync("cat /data/marker")).EnsureSuccess());
        }
        finally
        {
            await KillAsync(beside);
        }

        var keep = request with { Folder = lab.Scratch.File("instead"), Name = lab.Vm.Name, KeepIdentity = true };
        var clash = Assert.Single(await lab.Driver.CheckRestoreAsync(keep, default), finding => finding.Severity == FindingSeverity.Blocks);
        Assert.Equal("identity", clash.Item);
        var addresses = (await lab.Vm.ExecAsync("cat /sys/class/net/*/address")).EnsureSuccess();
        await lab.Vm.QuitAsync();
        foreach (var disk in lab.Vm.Disks)
        {
            File.Delete(disk.Path);
        }
        var instead = await lab.RestoreAsync(keep);
        try
        {
            Assert.Equal(lab.Machine.Uuid, instead.Id);
            Assert.Equal("marker-42\n", await ShellAsync(instead, "cat /data/marker"));
            Assert.Equal(0x1122334455667788UL, LabTpm.ValueIn(await ShellAsync(instead, LabTpm.ReadLine)));
            Assert.Equal(addresses, await ShellAsync(instead, "cat /sys/class/net/*/address"));
            Assert.Equal("rw", (await ShellAsync(instead, "grep ' /data ' /proc/mounts | cut -d' ' -f4 | cut -d, -f1")).Trim());

            // The restored machine can be backed up in its turn.
            lab.Machine = lab.Machine with { QmpSocket = instead.Details["qmp socket"], GuestAgentSocket = instead.Details["guest agent socket"] };
            await using var again = await lab.Driver.BeginCaptureAsync(lab.Request(CaptureLab.NewPoint()), default);
            Assert.Equal(CaptureConsistency.Filesystem, again.Consistency);
            Assert.Single(again.Contents);
        }
        finally
        {
            await KillAsync(instead);
        }
    }

    private static void RequirePrivate(string folder)
    {
        string[] paths = [folder, .. Directory.EnumerateFiles(folder, "*.permall")];
        Assert.Equal(2, paths.Length);
        foreach (var path in paths)
        {
            if (!OperatingSystem.IsWindows()) Assert.Equal((UnixFileMode)0, File.GetUnixFileMode(path) & (UnixFileMode)0b111_111);
        }
    }
}
