using VirtBackup.Cli.Tests.Fixtures;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Tests;

/// <summary>What the verbs of copy stores and policies ask of a controller, what they print of its answers, and what they refuse.</summary>
public sealed class CopyVerbTests : ControllerTests
{
    [Theory]
    [InlineData("store list", "stores.0.name=far stores.0.open=false stores.0.pack_bytes=null stores.0.off_site=true stores.1.points=12 stores.1.problem=null", "far     s3, off-site       11         1         -   not open   -")]
    [InlineData("store show near", "points_only_there=1 points_kept=2 location=/mnt/near", "1: the repository has not got them, and nobody forgot them")]
    [InlineData("store show far", "problem=The_bucket_does_not_answer. bytes_per_second_max=52428800", "not open: The bucket does not answer.")]
    [InlineData("store add new --location /mnt/new", "name=new location=/mnt/new", "virtbackup copies set NAME --machines all")]
    [InlineData("store remove near", "removed=near", "What is in it stays")]
    [InlineData("store run near", "kind=copy state=succeeded result.copy.points_copied=2 result.copy.problems=[] result.backup=null", "Copying to near succeeded")]
    [InlineData("copies list", "policies.0.name=gold policies.0.vms.0.vm=db7 policies.0.at.0=far policies.1.all_vms=true policies.1.rule_set=null", "gold     db7")]
    [InlineData("copies list", "policies.1.within_minutes=90", "every copy store")]
    [InlineData("copies set plain --machines all", "name=plain all_vms=true locked_at=null", "virtbackup copies status plain")]
    [InlineData("copies remove plain", "removed=plain", "The policy 'plain' is removed.")]
    public Task Verbs_print_json_for_programs_and_tables_for_people(string line, string json, string table) => PrintsForBothAsync(line, json, table);

    [Fact]
    public async Task What_is_overdue_has_its_own_exit_code()
    {
        var overdue = await RunAsync("copies", "status");
        Assert.Equal(7, overdue.ExitCode);
        Assert.Contains("overdue (2 of 4)", overdue.Output, StringComparison.Ordinal);
        Assert.Contains("db7 (gold): not at far; 1 of 3 copies", overdue.Output, StringComparison.Ordinal);
        var forPrograms = await RunAsync("copies", "status", "gold", "--vm", "db7", "--output", "json");
        Assert.Equal(7, forPrograms.ExitCode);
        forPrograms.Json.Holds("machines.0.state=overdue machines.0.reasons.0=not_at_far machines.0.copies_wanted=3 machines.0.locked_until_time=null machines.1.places.1.name=far machines.1.state=met");
        var asked = Controller.Admin.Request<GetCopyStatusRequest>();
        Assert.Equal(("gold", "db7"), (asked.Policy, asked.Vm));
        Controller.Copies.IsAsWanted = true;
        Assert.Contains("as wanted", (await RunAsync("copies", "status")).Succeeds().Output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task What_is_asked_of_a_policy_and_a_store_reaches_the_controller()
    {
        (await RunAsync("copies", "set", "gold", "--machines", "db7", "web7", "--copies", "3", "--media", "2", "--offsite", "1", "--at", "far", "--at", "east", "--lock-days", "14", "--locked-at", "far",
            "--within", "12h", "--rule-set", "long")).Succeeds();
        var policy = Controller.Admin.Request<SetCopyPolicyRequest>().Policy;
        Assert.Equal(("gold", false, 3u, 2u, 1u, 14u, "far", 720u, "long"), (policy.Name, policy.AllVms, policy.Copies, policy.Media, policy.OffSite, policy.LockDays, policy.LockedAt, policy.WithinMinutes, policy.RuleSet));
        Assert.Equal(["db7", "web7"], policy.Vms.Select(static vm => vm.VmName));
        Assert.Equal(["far", "east"], policy.At);
        (await RunAsync("store", "add", "far", "--location", "s3://backups/far", "--off-site", "--rate-limit", "50MiB")).Succeeds();
        var store = Controller.Admin.Request<AddCopyStoreRequest>();
        Assert.Equal(("far", "s3://backups/far", true, 50UL << 20), (store.Name, store.Location, store.OffSite, store.BytesPerSecondMax));
    }

    [Theory]
    [InlineData("store add x", "--location")]
    [InlineData("copies set x", "--machines")]
    [InlineData("copies set x --machines all db7", "--machines is 'all', or names machines.")]
    [InlineData("copies set x --machines all --copies 17", "--copies must be a number between 1 and 16.")]
    [InlineData("copies set x --machines all --within 5", "is not a span of time")]
    public async Task Usage_errors_are_said_at_once(string line, string error)
    {
        (await RunAsync(line.Split(' '))).Fails(2, error);
        Assert.Empty(Controller.Admin.Requests);
    }

    [Fact]
    public async Task A_run_that_did_not_copy_everything_has_its_own_exit_code()
    {
        Controller.Admin.IsDamaged = true;
        var outcome = await RunAsync("store", "run", "near");
        Assert.Equal(7, outcome.ExitCode);
        Assert.Contains("Recovery point x: it is damaged.", outcome.Output, StringComparison.Ordinal);
        (await RunAsync("store", "run", "gone")).Fails(5, "There is no copy store called 'gone'.", "virtbackup store list");
    }
}
