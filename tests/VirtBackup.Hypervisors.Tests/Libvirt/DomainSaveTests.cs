using VirtBackup.Hypervisors.Guests;
using VirtBackup.Hypervisors.Libvirt;
using VirtBackup.Hypervisors.Tests.Conformance;

namespace VirtBackup.Hypervisors.Tests.Libvirt;

/// <summary>Machines that a killed run saved.</summary>
[Collection(SharedLibvirt.Collection)]
public sealed class DomainSaveTests(SharedLibvirt shared)
{
    [Fact]
    public async Task A_saved_machine_runs_only_when_it_can_never_be_set_back_again()
    {
        await using var machine = await StillLibvirtMachine.StartAsync(shared.Daemon);
        var folder = Directory.CreateDirectory(machine.PathOf("saved")).FullName;
        await shared.Daemon.GiveAsync(folder);
        var (absent, aside) = (Path.Combine(folder, "state.only"), Path.Combine(folder, "state"));
        await shared.Daemon.VirshAsync("save", ConformanceMachine.Name, absent);
        var marks = new FreezeMarks(folder);
        marks.Set(FreezeMarks.Saved);
        await using var connection = new LibvirtConnection(shared.Daemon.Uri, new LibvirtOptions([shared.Daemon.Uri], "/"), TimeProvider.System, new WaitingThreads());

        Assert.True(await DomainSave.TryReleaseAsync(connection, machine.Id, folder, static _ => { }, default));
        Assert.Equal("paused", await StateAsync());
        Assert.Equal((false, true), (File.Exists(absent), File.Exists(aside)));
        Assert.Equal((true, false), (marks.Has(FreezeMarks.Stopped), marks.Has(FreezeMarks.Saved)));

        // Killed before the image got its other name: the machine is there, and whoever comes next lets it go on.
        File.Move(aside, absent);
        marks.Set(FreezeMarks.Saved);
        var target = new FreezeTarget("libvirt", machine.Id, ConformanceMachine.Name, folder, new Dictionary<string, string> { ["uri"] = shared.Daemon.Uri });
        Assert.Equal(ReleaseOutcome.Released, await new LibvirtGuestRelease(new WaitingThreads(), TimeProvider.System).TryReleaseAsync(target, static _ => { }, default));
        Assert.Equal("running", await StateAsync());
        Assert.False(marks.Any);
        Assert.False(File.Exists(absent));
    }

    private async Task<string> StateAsync() => (await shared.Daemon.VirshAsync("domstate", ConformanceMachine.Name)).Trim();
}
