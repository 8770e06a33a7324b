using VirtBackup.Cli.Tests.Fixtures;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Tests;

/// <summary>What the verbs of migrations ask of a controller, and what they refuse.</summary>
public sealed class MigrationVerbTests : ControllerTests
{
    [Fact]
    public async Task What_is_asked_of_a_move_to_another_host_reaches_the_controller()
    {
        (await RunAsync("migrate run web1 --to-host host-2 --folder /srv/m --cold --format raw --map-network br0=br1 --rate-limit 50MiB --rounds-max 3 --last-bytes 1MiB"
            + " --stop-anyway --stop-timeout 60 --force-stop --remove-source --yes --detach")).Succeeds();
        var request = Controller.Admin.Request<StartMigrationRequest>();
        var options = request.Options;
        Assert.Equal(("web1", 32), (request.Vm, request.RequestId.Length));
        Assert.Equal(("host-2", "/srv/m", "raw"), (options.Agent, options.Restore.Folder, options.Restore.Format));
        Assert.Equal([("br0", "br1")], options.Restore.Networks.Select(static mapping => (mapping.From, mapping.To)));
        Assert.Equal((true, 50UL << 20, 3u, 1UL << 20), (options.Cold, options.BytesPerSecondMax, options.RoundsMax, options.LastBytesMax));
        Assert.Equal((true, 60u, true, true), (options.StopAnyway, options.Stop.TimeoutSeconds, options.Stop.Force, options.RemoveSource));
        Assert.Null(options.Storage);
    }

    [Fact]
    public async Task What_is_asked_of_a_move_of_disks_reaches_the_controller()
    {
        (await RunAsync("migrate plan web1 --to-storage /srv/new --disk vda --disk vdb=pool:fast --format qcow2 --rate-limit 50MiB --detach")).Succeeds();
        var options = Controller.Admin.Request<StartMigrationPlanRequest>().Options;
        Assert.Equal(("", "/srv/new", "qcow2", 50UL << 20, true), (options.Agent, options.Storage.Target, options.Storage.Format, options.Storage.BytesPerSecondMax, options.Storage.KeepSource));
        Assert.Equal([("vda", ""), ("vdb", "pool:fast")], options.Storage.Disks.Select(static disk => (disk.Name, disk.Target)));
        Assert.Null(options.Restore);
    }

    [Theory]
    [InlineData("", "exactly one of --to-host AGENT and --to-storage TARGET")]
    [InlineData("--to-host host-2 --to-storage /srv/new --folder /srv/m", "exactly one of")]
    [InlineData("--to-host host-2", "--folder DIR")]
    [InlineData("--to-host host-2 --folder srv/m", "must be an absolute path")]
    [InlineData("--to-host host-2 --folder /srv/m --disk vda", "--disk belongs to --to-storage")]
    [InlineData("--to-host host-2 --folder /srv/m --rounds-max 65", "--rounds-max must be a number between 1 and 64.")]
    [InlineData("--to-host host-2 --folder /srv/m --stop-timeout 0", "--stop-timeout must be a number of seconds between 1 and 3600.")]
    [InlineData("--to-storage /srv/new --folder /srv/m", "--folder belongs to --to-host")]
    [InlineData("--to-storage /srv/new --cold --map-network br0=br1", "--cold and --map-network belong to --to-host")]
    [InlineData("--to-storage /srv/new --rounds-max 3", "--rounds-max belongs to --to-host")]
    [InlineData("--disk vda=/srv/new --last-bytes 1MiB", "--last-bytes belongs to --to-host")]
    [InlineData("--to-storage /srv/new --stop-anyway --stop-timeout 60 --force-stop", "--stop-anyway and --stop-timeout and --force-stop belong to --to-host")]
    public async Task A_migration_says_what_is_wrong_with_its_choices(string choices, string error) => (await RunAsync($"migrate plan web1 {choices}".Trim())).Fails(2, error);

    [Fact]
    public async Task Nothing_is_deleted_that_nobody_confirmed()
    {
        (await RunAsync("migrate run web1 --to-host host-2 --folder /srv/m --remove-source")).Fails(2, "The old copy of web1 is deleted", "--yes");
        (await RunAsync("migrate remove-source 77aa")).Fails(2, "is deleted", "--yes");
        Assert.Empty(Controller.Admin.Requests);
    }

    [Fact]
    public async Task A_plan_that_something_blocks_is_refused_and_a_migration_that_is_not_there_is_said()
    {
        Controller.Admin.IsMigrationBlocked = true;
        foreach (var line in new[] { "migrate plan web1 --to-host host-2 --folder /srv/m", "migrate run web1 --to-host host-2 --folder /srv/m --dry-run" })
        {
            var outcome = await RunAsync(line);
            Assert.Equal(4, outcome.ExitCode);
            Assert.Contains("The migration is not possible as asked.", outcome.Output, StringComparison.Ordinal);
        }
        Assert.Empty(Controller.Admin.Requests.OfType<StartMigrationRequest>());
        (await RunAsync("migrate show 99")).Fails(5, "There is no migration '99'.", "virtbackup migrate list");
    }

    [Fact]
    public async Task Disks_that_moved_on_their_host_are_not_called_live()
    {
        var shown = (await RunAsync("migrate show disks")).Succeeds().Output;
        Assert.Contains(shown.Split('\n'), static line => line.StartsWith("Kind", StringComparison.Ordinal) && line.EndsWith(" disks", StringComparison.Ordinal));
        Assert.Contains((await RunAsync("migrate show 77aa")).Succeeds().Output.Split('\n'), static line => line.StartsWith("Kind", StringComparison.Ordinal) && line.EndsWith(" cold", StringComparison.Ordinal));
    }

    private Task<Outcome> RunAsync(string line) => RunAsync(line.Split(' '));
}
