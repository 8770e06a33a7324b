using VirtBackup.Testing.Installations;

namespace VirtBackup.EndToEnd.Tests;

/// <summary>A running QEMU, an agent and a controller, shared by the tests that break backups off.</summary>
public sealed class InterruptionStage : IAsyncLifetime
{
    internal StillVm Still { get; private set; } = null!;

    internal Installation Installation { get; private set; } = null!;

    internal InstalledAgent Agent { get; private set; } = null!;

    public async ValueTask InitializeAsync()
    {
        Still = await StillVm.StartAsync("still");
        (Installation, Agent) = await Installation.StartAsync((_, agent) => agent.Add(Still.Vm, guestAgent: false));
        await Installation.WaitForMachineAsync("still");
        await Installation.BackUpAsync("still");
    }

    public async ValueTask DisposeAsync()
    {
        if (Installation is not null) await Installation.DisposeAsync();
        if (Still is not null) await Still.DisposeAsync();
    }
}

/// <summary>Backups in the middle of which something goes away. None is lost, none is wrong, and nothing is left behind.</summary>
public sealed class InterruptionTests(InterruptionStage stage) : IClassFixture<InterruptionStage>
{
    private const string Rate = "2MiB";
    private const int ChangedBytes = 16 << 20;
    private readonly Installation _installation = stage.Installation;

    [Fact]
    public async Task A_backup_survives_a_silent_controller_and_a_killed_one()
    {
        var (job, reference) = await BeginAsync("controller");
        await _installation.Controller.FreezeAsync();
        await Task.Delay(TimeSpan.FromSeconds(3), TestContext.Current.CancellationToken);
        await _installation.Controller.ThawAsync();
        await _installation.Controller.KillAsync();
        await _installation.Controller.StartAsync();

        var point = await FollowAsync(job);
        await reference.AssertEqualAsync(await _installation.RestoreDisksAsync(point, "r-controller"));
        await AssertCleanAsync(point);
    }

    [Fact]
    public async Task A_backup_begins_anew_when_its_agent_was_killed()
    {
        var (job, reference) = await BeginAsync("agent");
        await stage.Agent.Service.KillAsync();
        await stage.Agent.Service.StartAsync();

        var point = await FollowAsync(job);
        var view = (await _installation.RunAsync("job", "show", job)).Json;
        Assert.Equal(2, view.GetProperty("attempt").GetInt32());
        await reference.AssertEqualAsync(await _installation.RestoreDisksAsync(point, "r-agent"));
        await AssertCleanAsync(point);
    }

    [Fact]
    public async Task A_cancelled_backup_leaves_nothing_behind()
    {
        var before = await stage.Still.LookAsync();
        var points = await _installation.ListPointsAsync();
        var (job, reference) = await BeginAsync("cancelled");
        Assert.NotEmpty((await stage.Still.LookAsync()).Nodes);

        (await _installation.RunAsync("job", "cancel", job)).EnsureSuccess();
        Outcomes.AssertOneError(await _installation.FollowAsync(job), 1, "was cancelled");
        var after = await stage.Still.LookAsync();
        Assert.Empty(after.Nodes);
        Assert.Equal(before.Bitmaps, after.Bitmaps);
        Assert.Empty(Directory.EnumerateFileSystemEntries(stage.Agent.FleeceFolder));
        Assert.Equal(points, await _installation.ListPointsAsync());
        Assert.Equal(0, (await _installation.RunAsync("controller", "status")).Json.GetProperty("jobs_running").GetInt32());

        // The changes that the cancelled run had in its hands are still changes.
        var point = await _installation.BackUpAsync("still");
        Assert.InRange(Outcomes.ReadBytesOf(point), ChangedBytes, 3 * ChangedBytes);
        await reference.AssertEqualAsync(await _installation.RestoreDisksAsync(Outcomes.PointOf(point), "r-cancelled"));
    }

    [Fact]
    public async Task A_machine_that_dies_ends_its_backup_with_one_error_and_can_be_backed_up_again()
    {
        var points = await _installation.ListPointsAsync();
        var (job, reference) = await BeginAsync("dead");
        await stage.Still.Vm.KillAsync();
        Outcomes.AssertOneError(await _installation.FollowAsync(job), 1, "QEMU went away", "Start it");
        Assert.Empty(Directory.EnumerateFileSystemEntries(stage.Agent.FleeceFolder));
        Assert.Equal(points, await _installation.ListPointsAsync());

        await stage.Still.Vm.StartAgainAsync();
        var point = Outcomes.PointOf(await _installation.BackUpAsync("still"));
        await reference.AssertEqualAsync(await _installation.RestoreDisksAsync(point, "r-dead"));
        await AssertCleanAsync(point);
    }

    /// <summary>Changes the disks, takes a reference, and starts a backup that will be reading for some sixteen seconds.</summary>
    private async Task<(string Job, Reference Reference)> BeginAsync(string name)
    {
        await stage.Still.WriteAsync(offset: 3 << 20, length: ChangedBytes);
        var reference = await Reference.TakeAsync(stage.Still.Vm, _installation.File($"reference-{name}"));
        return (await _installation.BeginBackUpAsync("still", "reading", "--rate-limit", Rate), reference);
    }

    private async Task<string> FollowAsync(string job) =>
        Outcomes.PointOf((await _installation.FollowAsync(job)).Json.GetProperty("result").GetProperty("backup"));

    /// <summary>One bitmap a disk, that of the newest point, and nothing else; and the next backup counts from there.</summary>
    private async Task AssertCleanAsync(string point)
    {
        var (nodes, bitmaps) = await stage.Still.LookAsync();
        Assert.Empty(nodes);
        Assert.Equal(stage.Still.Vm.Disks.Count, bitmaps.Count);
        Assert.All(bitmaps, bitmap => Assert.Contains($"virtbackup-{point}", bitmap, StringComparison.Ordinal));
        Assert.Empty(Directory.EnumerateFileSystemEntries(stage.Agent.FleeceFolder));
        var next = await _installation.BackUpAsync("still");
        Assert.Equal(point, next.GetProperty("base_point_id").GetString());
        Assert.Equal(0, Outcomes.ReadBytesOf(next));
    }
}
