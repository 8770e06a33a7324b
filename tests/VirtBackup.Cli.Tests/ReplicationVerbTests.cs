using System.Text;
using VirtBackup.Cli.Tests.Fixtures;
using VirtBackup.Core;
using VirtBackup.Identity;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Tests;

/// <summary>What the verbs of peers and replication ask of a controller, what they print of its answers, and what they refuse.</summary>
public sealed class ReplicationVerbTests : ControllerTests
{
    [Theory]
    [InlineData("peer list", "peers.0.name=east peers.0.connected=true peers.0.allowed.0.vm=web1 peers.1.repository_id=null peers.1.allow_all=true peers.1.state=not_reached", "north   not reached   north.example:7443 (to be asked)   no         all machines")]
    [InlineData("peer list", "peers.0.problem=null", "north: Nobody answers at north.example:7443.")]
    [InlineData("peer show east", "controller=east.example:7443 our_certificate_expire_time=2031-06-03T12:00:00.000Z may_call=true unlocked=false", "virtbackup peer unlock east --kit FILE")]
    [InlineData("peer allow east --vm web1 --vm db1", "allow_all=false allowed.1.vm=db1", "'east' may read here: web1, db1.")]
    [InlineData("peer allow east --all", "allow_all=true may_read=all_machines", "'east' may read here: all machines.")]
    [InlineData("peer allow east --nothing", "allow_all=false may_read=nothing", "'east' may read here: nothing.")]
    [InlineData("peer offer north", "offer=true", "This controller dials 'north' and answers it there.")]
    [InlineData("peer offer north --off", "offer=false", "does not dial 'north'")]
    [InlineData("peer revoke east", "revoked=true", "Peer 'east' is revoked")]
    [InlineData("peer remove east", "removed=east", "Peer 'east' is removed.")]
    [InlineData("replication rule list", "rules.0.every_minutes=720 rules.0.windows.0.days.1=2 rules.0.windows.1.bytes_per_second_max=null rules.1.continuous=true", "8   50.0 MiB/s; mon,tue@08:00-18:00 20.0 MiB/s; 22:00-06:00 no limit   gold       30 days")]
    [InlineData("replication rule set east --continuous", "peer=east continuous=true streams=4 windows=[]", "virtbackup replication status east")]
    [InlineData("replication rule remove east", "removed=east", "Nothing more is pulled from 'east' by itself.")]
    [InlineData("replication status", "rules.0.running=true rules.0.machines.0.lag_seconds=5400 rules.0.machines.0.newest_here_time=null rules.0.machines.1.lag_seconds=null rules.0.rule.rule_set=gold", "db7       1h 30m         2   2031-05-04 12:00:00   -")]
    [InlineData("replication status east", "rules.0.bytes_per_second=12582912", "pulling, 12.0 MiB/s")]
    [InlineData("replication run east", "kind=replication state=succeeded result.replication.points_received=1 result.replication.received.0.vm=db7 result.backup=null", "Replication from east succeeded")]
    public Task Verbs_print_json_for_programs_and_tables_for_people(string line, string json, string table) => PrintsForBothAsync(line, json, table);

    [Fact]
    public async Task What_is_asked_of_a_rule_and_a_run_reaches_the_controller()
    {
        (await RunAsync("replication", "rule", "set", "east", "--every", "12h", "--vm", "db7", "--vm", "web7", "--streams", "8", "--rate-limit", "50MiB", "--rate-window", "mon-wed,sun@08:00-18:00=20MiB",
            "--rate-window", "22:00-06:00=none", "--rule-set", "gold", "--lock-for", "30d", "--paused")).Succeeds();
        var rule = Controller.Admin.Request<SetReplicationRuleRequest>().Rule;
        Assert.Equal(("east", 720u, 8u, 50UL << 20, "gold", 30u, true), (rule.Peer, rule.EveryMinutes, rule.Streams, rule.BytesPerSecondMax, rule.RuleSet, rule.LockDays, rule.Paused));
        Assert.Equal(["db7", "web7"], rule.Vms);
        Assert.Equal([1u, 2u, 3u, 7u], rule.Windows[0].Days);
        Assert.Equal((480u, 1080u, 20UL << 20), (rule.Windows[0].StartMinute, rule.Windows[0].EndMinute, rule.Windows[0].BytesPerSecondMax));
        Assert.Equal((1320u, 360u, 0UL, 0), (rule.Windows[1].StartMinute, rule.Windows[1].EndMinute, rule.Windows[1].BytesPerSecondMax, rule.Windows[1].Days.Count));
        (await RunAsync("replication", "run", "east", "--vm", "db7", "--again", "--detach")).Succeeds();
        var run = Controller.Admin.Request<StartReplicationRequest>();
        Assert.Equal(("east", "db7", true, 32), (run.Peer, run.Vms.Single(), run.Again, run.RequestId.Length));
    }

    [Theory]
    [InlineData("replication rule set east", "exactly one of --continuous and --every TIME")]
    [InlineData("replication rule set east --continuous --every 1h", "exactly one of --continuous and --every TIME")]
    [InlineData("replication rule set east --every 400d", "--every is at most 365d.")]
    [InlineData("replication rule set east --continuous --streams 17", "--streams must be a number between 1 and 16.")]
    [InlineData("replication rule set east --continuous --rate-window 08:00-18:00", "is not a limit by time of day")]
    [InlineData("replication rule set east --continuous --rate-window 08:00-08:00=1MiB", "is not a limit by time of day")]
    [InlineData("replication rule set east --continuous --rate-window 24:00-18:00=1MiB", "is not a limit by time of day")]
    [InlineData("replication rule set east --continuous --rate-window 08:00-25:00=1MiB", "is not a limit by time of day")]
    [InlineData("replication rule set east --continuous --rate-window moon@08:00-18:00=1MiB", "is not a limit by time of day")]
    [InlineData("replication rule set east --continuous --rate-window 08:00-18:00=0", "is not a limit by time of day")]
    [InlineData("peer allow east", "exactly one of --vm VM, --all and --nothing")]
    [InlineData("peer allow east --all --vm web1", "exactly one of --vm VM, --all and --nothing")]
    [InlineData("peer add east", "--token-file")]
    [InlineData("peer unlock east", "--kit")]
    [InlineData("peer token east --lifetime 8d", "is not a lifetime")]
    public async Task Choices_that_are_wrong_are_said(string line, string error) => (await RunAsync(line.Split(' '))).Fails(2, error);

    [Fact]
    public async Task A_token_stands_alone_on_standard_output_and_is_never_an_argument()
    {
        var made = (await RunAsync("peer", "token", "west", "--lifetime", "2h")).Succeeds();
        Assert.Equal("vbjoin1.TOKEN\n", made.Output);
        Assert.Contains("virtbackup peer allow west", made.Error);
        var request = Controller.Admin.Request<CreatePeerTokenRequest>();
        Assert.Equal(("west", 120u), (request.Name, request.LifetimeMinutes));
    }

    [Fact]
    public async Task A_token_of_a_file_or_from_standard_input_joins_another_controller()
    {
        var token = Token(PeerRole.Peer);
        File.WriteAllText(Home.File("token"), token + "\n");
        (await RunAsync("peer", "add", "east", "--token-file", Home.File("token"), "--controller", "east.example:7443", "--offer")).Succeeds();
        var request = Controller.Admin.Request<AddPeerRequest>();
        Assert.Equal(("east", "east.example:7443", token, true), (request.Name, request.Controller, request.JoinToken, request.Offer));
        var joined = await CommandLine.RunAsync(Home, token + "\n", ["peer", "add", "east", "--token-file", "-", "--credentials", Credentials]);
        Assert.Contains("This controller has joined 'east' at east.example:7443.", joined.Succeeds().Output, StringComparison.Ordinal);
        Assert.Equal(("", token), (Controller.Admin.Request<AddPeerRequest>().Controller, Controller.Admin.Request<AddPeerRequest>().JoinToken));
    }

    [Fact]
    public async Task A_token_that_is_none_or_for_an_agent_is_refused_before_anybody_is_asked()
    {
        File.WriteAllText(Home.File("agent"), Token(PeerRole.Agent));
        File.WriteAllText(Home.File("cut"), Token(PeerRole.Peer)[..^4]);
        (await AddAsync("agent")).Fails(2, "is for an agent", "virtbackup peer token NAME");
        (await AddAsync("cut")).Fails(2, "not a complete join token", "virtbackup peer token");
        (await AddAsync("none")).Fails(2, "The join token cannot be read", "--token-file FILE");
        Assert.Empty(Controller.Admin.Requests);
    }

    [Fact]
    public async Task A_controller_that_cannot_be_joined_is_not_taken_for_this_one()
    {
        File.WriteAllText(Home.File("token"), Token(PeerRole.Peer));
        Controller.Replication.Refusal = new FaultException(FaultReason.Unavailable, "The controller at east.example:7443 cannot be reached: no route.");
        (await AddAsync("token")).Fails(3, "The controller at east.example:7443 cannot be reached", "check that the other controller runs");
        Controller.Replication.Refusal = new FaultException(FaultReason.Denied, "The join token was used already.");
        (await AddAsync("token")).Fails(4, "was used already", "make a new token there: virtbackup peer token NAME");
    }

    [Fact]
    public async Task A_recovery_kit_comes_from_a_private_file_or_standard_input_and_must_be_whole()
    {
        using var kit = RecoveryKit.Create(Id16.Parse(FakeReplication.Repository), new byte[RecoveryKit.RootSecretBytes], Controller.Authority);
        kit.Save(Home.File("kit"));
        var unlocked = (await RunAsync("peer", "unlock", "east", "--kit", Home.File("kit"))).Succeeds();
        Assert.Contains("7 of its recovery points can be restored", unlocked.Output, StringComparison.Ordinal);
        var text = RecoveryKitText.Format(kit);
        Assert.Equal(("east", Encoding.UTF8.GetString(text)), (Controller.Admin.Request<UnlockPeerRequest>().Name, Controller.Admin.Request<UnlockPeerRequest>().RecoveryKit.ToStringUtf8()));
        (await CommandLine.RunAsync(Home, Encoding.UTF8.GetString(text), ["peer", "unlock", "--kit", "-", "--credentials", Credentials])).Succeeds();
        Assert.Equal("", Controller.Admin.Request<UnlockPeerRequest>().Name);
        Controller.Admin.Requests.Clear();
        File.SetUnixFileMode(Home.File("kit"), UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.GroupRead);
        (await RunAsync("peer", "unlock", "east", "--kit", Home.File("kit"))).Fails(4, "chmod 600", "of mode 0600");
        (await RunAsync("peer", "unlock", "east", "--kit", Home.File("none"))).Fails(5, "does not exist", "--kit FILE");
        Assert.Equal(1, (await CommandLine.RunAsync(Home, "no kit\n", ["peer", "unlock", "--kit", "-", "--credentials", Credentials])).ExitCode);
        Assert.Empty(Controller.Admin.Requests);
    }

    [Theory]
    [InlineData("peer show west", "virtbackup peer list")]
    [InlineData("peer remove west", "virtbackup peer list")]
    [InlineData("replication rule set west --continuous", "virtbackup peer list")]
    [InlineData("replication run west", "virtbackup peer list")]
    public async Task A_peer_that_is_not_there_is_said_with_the_next_step(string line, string next) => (await RunAsync(line.Split(' '))).Fails(5, "There is no peer called 'west'.", next);

    [Fact]
    public async Task A_run_that_did_not_get_everything_has_its_own_exit_code()
    {
        Controller.Admin.IsDamaged = true;
        var outcome = await RunAsync("replication", "run", "east");
        Assert.Equal(7, outcome.ExitCode);
        Assert.Contains("db7 of 11:00: its signature is wrong.", outcome.Output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Recovery_points_and_machines_of_other_sites_are_marked()
    {
        Controller.Admin.Origin = new PointOrigin { RepositoryId = FakeReplication.Repository, Peer = "east", Sealed = true };
        var list = (await RunAsync("recovery-point", "list")).Succeeds().Output.Split('\n');
        Assert.Contains("FROM", list[0], StringComparison.Ordinal);
        Assert.EndsWith("east (sealed)", list[1], StringComparison.Ordinal);
        Assert.EndsWith("here", list[2], StringComparison.Ordinal);
        Assert.Contains("virtbackup peer unlock --kit FILE", (await RunAsync("recovery-point", "show", "web1@latest")).Succeeds().Output, StringComparison.Ordinal);
        Assert.Contains("web1   host-1   at east", (await RunAsync("vm", "list")).Succeeds().Output, StringComparison.Ordinal);
        (await RunAsync("vm", "list", "-o", "json")).Succeeds().Json.Holds("virtual_machines.0.state=elsewhere virtual_machines.0.peer=east");
        (await RunAsync("recovery-point", "list", "-o", "json")).Succeeds().Json
            .Holds($"recovery_points.0.origin.peer=east recovery_points.0.origin.sealed=true recovery_points.0.origin.repository_id={FakeReplication.Repository} recovery_points.1.origin=null");
    }

    [Fact]
    public async Task Completion_knows_peers()
    {
        var standard = Path.Combine(Home.Path, ".config", "virtbackup");
        Directory.CreateDirectory(Path.GetDirectoryName(standard)!);
        Directory.CreateSymbolicLink(standard, Credentials);
        foreach (var line in new[] { "virtbackup peer show ", "virtbackup replication run ", "virtbackup replication rule set " })
        {
            var outcome = (await CommandLine.RunAsync(Home, "complete", $"{line.Length}", line)).Succeeds();
            Assert.Equal(["east", "north"], outcome.Output.Split('\n').Where(static value => value is "east" or "north"));
        }
    }

    private static string Token(PeerRole role)
    {
        using var token = JoinToken.Create(
            SystemEntropy.Instance, new Id32(), DateTimeOffset.UtcNow.AddHours(1), new JoinTokenDetails { Role = role, Name = "west", Endpoints = ["https://east.example:7443"] });
        return token.ToText();
    }

    private Task<Outcome> AddAsync(string tokenFile) => RunAsync("peer", "add", "east", "--token-file", Home.File(tokenFile));
}
