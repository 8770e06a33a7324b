using VirtBackup.Core;
using VirtBackup.Hypervisors.Libvirt;
using VirtBackup.Hypervisors.Libvirt.Moving;
using VirtBackup.Hypervisors.Moving;

namespace VirtBackup.Hypervisors.Tests.Libvirt;

/// <summary>Machines that leave a host of libvirt, come back, and come to it.</summary>
public class LibvirtRetireTests
{
    private const string Tpm = "<tpm model='tpm-tis'><backend type='emulator' version='2.0'/></tpm>";
    private static readonly RetireRequest Retire = new(Delete: false, Undo: false, ""), Undo = new(Delete: false, Undo: true, ""), Delete = new(Delete: true, Undo: false, "");

    [Fact]
    public async Task A_retired_machine_keeps_its_TPM_until_it_comes_back_or_is_deleted()
    {
        await using var lab = await LibvirtLab.DefineAsync(extraDevices: Tpm);
        var control = ControlOf(lab, new HashSet<string>());
        var state = await MakeTpmAsync(lab);

        Assert.True((await control.RetireAsync(lab.Machine, Retire, default)).Retired);
        Assert.True(await IsUndefinedAsync(lab));
        Assert.Equal([7], await File.ReadAllBytesAsync(state));
        Assert.False((await control.RetireAsync(lab.Machine, Undo, default)).Retired);
        Assert.False(await IsUndefinedAsync(lab));
        Assert.Equal([7], await File.ReadAllBytesAsync(state));

        await control.RetireAsync(lab.Machine, Retire, default);
        var place = Path.GetDirectoryName(Path.GetDirectoryName(state)!)!;
        Assert.Contains(place, (await control.RetireAsync(lab.Machine, Delete, default)).Removed);
        Assert.False(Directory.Exists(place));
    }

    [Fact]
    public async Task A_machine_that_came_here_can_be_removed_whatever_names_are_served()
    {
        await using var lab = await LibvirtLab.DefineAsync(extraDevices: Tpm);
        var control = ControlOf(lab, ["lab"]);
        var state = await MakeTpmAsync(lab);
        var folder = lab.Libvirt.File("lab");
        Assert.False(await control.KnowsAsync(lab.Machine, default));
        new MovingRecords(lab.Options.StateFolder).Write(new AdoptedMachine(lab.Machine.ToString(), "lab", folder, Complete: true, "", null, "", "", null, []));

        Assert.Equal([folder], (await control.RetireAsync(lab.Machine, Delete with { Folder = folder }, default)).Removed);
        Assert.True(await IsUndefinedAsync(lab));
        Assert.False(File.Exists(state));
    }

    [Fact]
    public async Task A_machine_whose_name_is_not_served_does_not_come_here()
    {
        await using var lab = await LibvirtLab.DefineAsync();
        var point = LibvirtLab.NewPoint();
        await using var capture = await lab.Driver.BeginCaptureAsync(lab.Request(point), default);
        await capture.CommitAsync(default);
        var request = lab.RestoreRequest(capture, point, lab.Libvirt.File("copy"), "other") with { Adopt = true, Start = false };
        ControlOf(lab, ["other"]);
        Assert.Contains(await lab.Driver.CheckRestoreAsync(request, default), finding =>
            finding is { Item: "identity", Severity: FindingSeverity.Blocks } && finding.Message.Contains("does not serve machines called other", StringComparison.Ordinal));
        ControlOf(lab, []);
        Assert.DoesNotContain(await lab.Driver.CheckRestoreAsync(request, default), finding => finding.Severity == FindingSeverity.Blocks);
    }

    [Fact]
    public async Task A_machine_that_cannot_be_taken_over_or_is_started_meanwhile_is_not_half_there()
    {
        await using var lab = await LibvirtLab.DefineAsync();
        ControlOf(lab, []);
        var point = LibvirtLab.NewPoint();
        await using var capture = await lab.Driver.BeginCaptureAsync(lab.Request(point), default);
        await capture.CommitAsync(default);
        var request = lab.RestoreRequest(capture, point, lab.Libvirt.File("copy"), "copy") with { Adopt = true, Start = false };
        await using (var restore = await lab.Driver.BeginRestoreAsync(request, default))
        {
            new MovingRecords(lab.Options.StateFolder).RemoveAdopted(lab.Machine);
            var fault = await Assert.ThrowsAsync<FaultException>(async () => await restore.CompleteAsync(default));
            Assert.Contains("could not be taken over, and was removed again", fault.Message, StringComparison.Ordinal);
        }
        Assert.NotEqual(0, (await lab.Libvirt.TryVirshAsync("domuuid", "copy")).ExitCode);
        Assert.False(Directory.Exists(request.Folder));

        var waiting = request with
        {
            Adopt = false, Start = true,
            StartGate = async _ =>
            {
                await lab.Libvirt.VirshAsync("start", "copy", "--paused");
                return false;
            },
        };
        await using (var restore = await lab.Driver.BeginRestoreAsync(waiting, default))
        {
            Assert.Contains("started by somebody else", (await Assert.ThrowsAsync<FaultException>(async () => await restore.CompleteAsync(default))).Message, StringComparison.Ordinal);
        }
        Assert.Equal("paused", (await lab.Libvirt.VirshAsync("domstate", "copy")).Trim());
        Assert.NotEmpty(Directory.GetFiles(request.Folder));
        await lab.Libvirt.VirshAsync("destroy", "copy");
    }

    [Fact]
    public void A_libvirt_that_would_delete_the_TPM_does_not_retire_its_machine()
    {
        static DomainDocument With(string backend) => DomainDocument.Parse($"<domain><name>x</name><uuid>0123456789abcdef0123456789abcdef</uuid><devices><tpm>{backend}</tpm></devices></domain>");
        var emulated = With("<backend type='emulator' version='2.0'/>");
        Assert.Contains("older than 8.9", Assert.Throws<FaultException>(() => RetiredTpm.ChooseFlags(emulated, 8_008_000, keeps: true)).Message, StringComparison.Ordinal);
        Assert.Equal(0U, RetiredTpm.ChooseFlags(With("<backend type='emulator' persistent_state='yes'/>"), 8_008_000, keeps: true));
        Assert.Equal(0U, RetiredTpm.ChooseFlags(With("<backend type='passthrough'/>"), 8_008_000, keeps: true));
        Assert.Equal(0U, RetiredTpm.ChooseFlags(emulated, 8_008_000, keeps: false));
        Assert.Equal((64U, 32U), (RetiredTpm.ChooseFlags(emulated, 8_009_000, keeps: true), RetiredTpm.ChooseFlags(emulated, 9_000_000, keeps: false)));
    }

    private static IMachineControl ControlOf(LibvirtLab lab, HashSet<string> excluded)
    {
        lab.Options = lab.Options with { StateFolder = lab.Libvirt.File("state"), Exclude = excluded };
        return lab.NewDriver().Control!;
    }

    /// <summary>As its emulator leaves it where libvirt looks for it; no guest has to run for that.</summary>
    private static async Task<string> MakeTpmAsync(LibvirtLab lab)
    {
        var state = lab.Libvirt.File($"c/libvirt/qemu/swtpm/{lab.Domain.Uuid}/tpm2/tpm2-00.permall");
        Directory.CreateDirectory(Path.GetDirectoryName(state)!);
        await File.WriteAllBytesAsync(state, [7]);
        await lab.Libvirt.GiveAsync(lab.Libvirt.File("c/libvirt/qemu/swtpm"));
        return state;
    }

    private static async Task<bool> IsUndefinedAsync(LibvirtLab lab) => (await lab.Libvirt.TryVirshAsync("domuuid", "lab")).ExitCode != 0;
}
