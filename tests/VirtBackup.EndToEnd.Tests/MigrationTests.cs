using System.Text;
using System.Text.Json;
using VirtBackup.Testing.Installations;
using VirtBackup.Testing.Lab;

namespace VirtBackup.EndToEnd.Tests;

/// <summary>A real guest that moves from the host of one agent to that of another.</summary>
public sealed class MigrationTests
{
    [Fact]
    public async Task A_machine_moves_while_it_runs_goes_on_being_backed_up_and_comes_back_cold()
    {
        await using var vm = await LabVm.BootAsync(new LabVmOptions { Name = "web" });
        var (installation, _) = await Installation.StartAsync((_, agent) => agent.Add(vm));
        await using var _ = installation;
        var other = await installation.EnrollAsync("other");
        await other.Service.StartAsync();
        await installation.WaitForMachineAsync("web");
        await vm.WriteFileAsync("/data/marker", Encoding.UTF8.GetBytes("moved"));
        Outcomes.AssertOneError(await installation.RunAsync("migrate", "run", "web", "--to-host", "host", "--folder", "/tmp/x"), 2, "is on host already");

        // Nothing is known of the target before the first recovery point, and said so; then it is compared and measured.
        var folder = installation.File("moved");
        string[] there = ["web", "--to-host", "other", "--folder", folder];
        Assert.Contains("There is no recovery point", PlanOf(await installation.RunAsync(["migrate", "plan", .. there])).GetRawText(), StringComparison.Ordinal);
        var first = Outcomes.PointOf(await installation.BackUpAsync("web"));
        var plan = PlanOf(await installation.RunAsync(["migrate", "run", .. there, "--dry-run"]));
        Assert.DoesNotContain(plan.GetProperty("findings").EnumerateArray(), static finding => finding.GetProperty("verdict").GetString() == "blocks");
        Assert.True(plan.GetProperty("estimate").GetProperty("sample_bytes_per_second").GetDouble() > 0);
        Assert.True(plan.GetProperty("interruption").GetProperty("p90_seconds").GetDouble() > plan.GetProperty("interruption").GetProperty("p50_seconds").GetDouble());
        var occupied = await installation.RunAsync("migrate", "plan", "web", "--to-host", "other", "--folder", installation.Repository);
        Assert.Equal(4, occupied.ExitCode);

        await vm.WriteFileAsync("/data/later", Encoding.UTF8.GetBytes("after the first point"));
        var warm = (await installation.RunAsync(["migrate", "run", .. there])).Json;
        var result = warm.GetProperty("result").GetProperty("migration");
        var rounds = result.GetProperty("rounds").EnumerateArray().ToList();
        Assert.InRange(rounds.Count, 3, 10);
        Assert.True(rounds[^1].GetProperty("last").GetBoolean());
        Assert.True(result.GetProperty("downtime_seconds").GetDouble() > 0);
        Assert.True(result.GetProperty("interruption").GetProperty("actual_seconds").GetDouble() > 0);
        Assert.True(result.GetProperty("source_kept").GetBoolean());
        Assert.True(vm.HasExited);
        Assert.Equal("other", await AgentOfAsync(installation));
        Assert.All(vm.Disks, static disk => Assert.Equal((false, true), (File.Exists(disk.Path), File.Exists(disk.Path + ".virtbackup-retired"))));
        await using (var moved = RestoredVm.InFolder(folder))
        {
            Assert.Equal("moved", Encoding.UTF8.GetString(await moved.ReadFileAsync("/data/marker")));
            Assert.Equal("after the first point", Encoding.UTF8.GetString(await moved.ReadFileAsync("/data/later")));

            // Its chain goes on, and its next plan knows how the last one went.
            var next = await installation.BackUpAsync("web");
            Assert.Equal("filesystem", next.GetProperty("consistency").GetString());
            Assert.Contains(first, await installation.ListPointsAsync("--vm", "web"));
            string[] back = ["web", "--to-host", "host", "--folder", installation.File("back"), "--cold", "--force-stop", "--stop-timeout", "1"];
            var refused = await installation.RunAsync(["migrate", "run", .. back]);
            Outcomes.AssertOneError(refused, 1, "is still on this host");
            var migration = warm.GetProperty("job_id").GetString()!;
            Outcomes.AssertOneError(await installation.RunAsync("migrate", "remove-source", migration), 2, "is deleted");
            (await installation.RunAsync("migrate", "remove-source", migration, "--yes")).EnsureSuccess();
            Assert.All(vm.Disks, static disk => Assert.False(File.Exists(disk.Path + ".virtbackup-retired")));
            (await installation.RunAsync(["migrate", "run", .. back, "--remove-source", "--yes"])).EnsureSuccess();
        }
        await using var returned = RestoredVm.InFolder(installation.File("back"));
        Assert.False(Directory.Exists(folder));
        Assert.Equal("host", await AgentOfAsync(installation));
        var list = (await installation.RunAsync("migrate", "list")).Json.GetProperty("migrations").EnumerateArray().ToList();
        Assert.Equal(["succeeded", "failed", "succeeded"], list.Select(static entry => entry.GetProperty("state").GetString()));
        Assert.Equal("removed", list[0].GetProperty("source_copy").GetString());
    }

    private static JsonElement PlanOf(CommandResult result) => result.Json.GetProperty("result").GetProperty("migration_plan");

    private static async Task<string?> AgentOfAsync(Installation installation) =>
        (await installation.RunAsync("vm", "list")).Json.GetProperty("virtual_machines").EnumerateArray().Single().GetProperty("agent").GetString();
}
