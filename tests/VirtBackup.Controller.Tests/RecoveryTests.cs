using VirtBackup.Controller.Recovery;
using VirtBackup.Controller.Tests.Fixtures;
using VirtBackup.Core;
using VirtBackup.Protocol.Admin.V1;
using VirtBackup.Protocol.Agent.V1;
using VirtBackup.Protocol.Common.V1;
using static VirtBackup.Controller.Tests.EnrollmentTests;
using static VirtBackup.Controller.Tests.StoreTests;
using AgentResult = VirtBackup.Protocol.Agent.V1.RestoreResult;
using Gate = VirtBackup.Protocol.Agent.V1.StartOrder.Types.Gate;
using State = VirtBackup.Protocol.Admin.V1.RecoveredMachine.Types.State;

namespace VirtBackup.Controller.Tests;

/// <summary>Runs of several machines, each on a host of its own: web needs app, app needs db; mail needs none.</summary>
public sealed class RecoveryTests : IAsyncLifetime
{
    private static readonly string[] Names = ["app", "db", "mail", "web"];

    private readonly Dictionary<string, TestAgent> _agents = [];
    private readonly Dictionary<string, string> _points = [];
    private CancellationTokenSource _stop = CancellationTokenSource.CreateLinkedTokenSource(World.Token);
    private World _world = null!;
    private Task _running = Task.CompletedTask;

    private RecoveryEndpoint Recovery => _world.Role.Recovery;

    public async ValueTask InitializeAsync()
    {
        _world = await World.CreateAsync();
        foreach (var name in Names)
        {
            _agents[name] = await _world.EnrollAsync(name);
            _points[name] = (await BackUpAsync(_agents[name], NewDisk())).PointId;
        }
        _running = _world.Role.RunAsync(_stop.Token);
        await AddAsync("web", "app");
        await AddAsync("app", "db");
        await Recovery.SetProbeAsync(new SetProbeRequest { Vm = Vm("db"), Probe = new ReadinessProbe { Tcp = "10.0.0.7:5432", IntervalMs = 200 } }, World.Token);
    }

    [Fact]
    public async Task Dependencies_are_shown_in_stages_and_a_circle_is_refused_by_names()
    {
        var fault = await RefusedAsync(FaultReason.FailedPrecondition, () => AddAsync("db", "web"));
        Assert.Contains("vm-of-db needs vm-of-web needs vm-of-app needs vm-of-db", fault.Message, StringComparison.Ordinal);
        Assert.Contains("cannot need itself", (await RefusedAsync(FaultReason.FailedPrecondition, () => AddAsync("db", "db"))).Message, StringComparison.Ordinal);
        var all = (await Recovery.GetDependenciesAsync(new GetDependenciesRequest(), World.Token)).Machines;
        Assert.Equal([("vm-of-db", 1u, "tcp 10.0.0.7:5432"), ("vm-of-app", 2u, "started"), ("vm-of-web", 3u, "started")], all.Select(static machine => (machine.VmName, machine.Stage, machine.ProbeText)));
        Assert.Equal(["vm-of-app"], all[2].Needs);
        Assert.Single((await Recovery.GetDependenciesAsync(new GetDependenciesRequest { Vm = Vm("mail") }, World.Token)).Machines);
        Assert.Empty((await Recovery.RemoveDependencyAsync(new RemoveDependencyRequest { Vm = Vm("app"), Needs = Vm("db") }, World.Token)).Machine.Needs);
        await RefusedAsync(FaultReason.NotFound, async () => await Recovery.RemoveDependencyAsync(new RemoveDependencyRequest { Vm = Vm("app"), Needs = Vm("db") }, World.Token));
    }

    [Theory]
    [InlineData("db.example.org")]
    [InlineData("db.example.org:0")]
    [InlineData(":5432")]
    [InlineData("a b:1")]
    public async Task A_probe_that_cannot_be_is_refused(string tcp)
    {
        await RefusedAsync(FaultReason.InvalidArgument, () => ProbeAsync(new ReadinessProbe { Tcp = tcp }));
        await RefusedAsync(FaultReason.InvalidArgument, () => ProbeAsync(new ReadinessProbe { Http = $"ftp://{tcp}" }));
        await RefusedAsync(FaultReason.InvalidArgument, () => ProbeAsync(new ReadinessProbe { Command = $"/bin/sh -c {tcp}" }));
        await RefusedAsync(FaultReason.InvalidArgument, () => ProbeAsync(new ReadinessProbe { GuestAgent = true, TimeoutMs = 1 }));
    }

    [Fact]
    public async Task Disks_are_restored_at_once_and_each_machine_starts_when_what_it_needs_is_ready()
    {
        var job = await StartAsync();
        await CheckAllAsync();
        var restores = await RestoresAsync(4);
        foreach (var name in Names)
        {
            await ReachAsync(restores[name], name, StartStage.Restored);
        }
        await UntilAsync(async () => await GateAsync("db") == Gate.Open && await GateAsync("mail") == Gate.Open);
        Assert.Equal((Gate.Closed, Gate.Closed), (await GateAsync("app"), await GateAsync("web")));
        Assert.Equal("10.0.0.7:5432", Assigned("db").Start.Probe.Tcp);
        Assert.EndsWith("/vm-of-app", Assigned("app").Options.Folder, StringComparison.Ordinal);
        await ReachAsync(restores["db"], "db", StartStage.Probing);
        Assert.Equal(Gate.Closed, await GateAsync("app"));
        _world.Time.Advance(TimeSpan.FromSeconds(7));
        await ReadyAsync(restores["db"], "db", 7);
        await UntilAsync(async () => await GateAsync("app") == Gate.Open);
        Assert.Equal(Gate.Closed, await GateAsync("web"));
        _world.Time.Advance(TimeSpan.FromSeconds(2));
        await ReadyAsync(restores["app"], "app", 2);
        await UntilAsync(async () => await GateAsync("web") == Gate.Open);
        await ReadyAsync(restores["web"], "web", 0.5);
        Assert.Equal("3 of 4 ready, 1 starting", (await UntilPhaseAsync(job, "3 of 4")).Progress.Phase);
        await ReadyAsync(restores["mail"], "mail", 9);
        var result = (await EndAsync(job, JobState.Succeeded)).Result.Recovery;
        Assert.All(result.Machines, static machine => Assert.Equal(State.Ready, machine.State));
        Assert.Equal(["vm-of-db", "vm-of-mail", "vm-of-app", "vm-of-web"], result.Machines.Select(static machine => machine.VmName));
        // Its estimate was 10 s for every restore; without history a start takes 30 s.
        Assert.InRange(result.PredictedSeconds, 98, 115);
        Assert.Equal(["vm-of-db", "vm-of-db", "vm-of-app", "vm-of-web"], result.PredictedPath.Select(static leg => leg.VmName));
        Assert.Equal((9.0, 9.0), (result.ActualSeconds, result.PathSeconds));
        Assert.Equal((1u, 1u, 1u), (result.Record.Scored, result.Record.WithinP50, result.Record.WithinP90));

        // The next one is judged by it: db took 7 s with this probe, on this host.
        var plan = await StartAsync(dryRun: true);
        await CheckAllAsync();
        var planned = (await EndAsync(plan, JobState.Succeeded)).Result.Recovery;
        var db = planned.Machines.Single(static machine => machine.VmName == "vm-of-db");
        Assert.Equal((7.0, 1u, State.Planned), (db.ReadyP50Seconds, db.ReadyJudgedBy, db.State));
        Assert.True(planned.DryRun);
        Assert.Equal(4, (await _world.Role.Catalog.Jobs.ListAsync(null, false, null, 100, World.Token)).Count(static row => row.Kind == Catalog.JobKind.Restore));
        Assert.Equal(9.0, Assert.Single((await Recovery.ListRecoveriesAsync(World.Token)).Runs).ActualSeconds);
    }

    [Fact]
    public async Task What_needs_a_machine_that_failed_is_not_started_and_the_others_go_on()
    {
        var job = await StartAsync();
        await CheckAllAsync();
        var restores = await RestoresAsync(4);
        await ReachAsync(restores["app"], "app", StartStage.Restored);
        await ReachAsync(restores["db"], "db", StartStage.Restored);
        await UntilAsync(async () => await GateAsync("db") == Gate.Open);
        await _agents["db"].ReportAsync(restores["db"], 1, JobState.Failed, static report => report.FailureMessage = "was not ready within 300 s");
        await UntilAsync(async () => await GateAsync("app") == Gate.StayOff);
        await _agents["app"].ReportAsync(restores["app"], 1, JobState.Succeeded, static report => report.Restore = new AgentResult());
        // What is still being restored becomes whole first.
        Assert.Equal(Gate.Closed, await GateAsync("web"));
        await ReachAsync(restores["web"], "web", StartStage.Restored);
        await UntilAsync(async () => await GateAsync("web") == Gate.StayOff);
        await _agents["web"].ReportAsync(restores["web"], 1, JobState.Succeeded, static report => report.Restore = new AgentResult());
        await ReachAsync(restores["mail"], "mail", StartStage.Restored);
        await UntilAsync(async () => await GateAsync("mail") == Gate.Open);
        await ReadyAsync(restores["mail"], "mail", 1);
        var ended = await EndAsync(job, JobState.Failed);
        Assert.Equal(ErrorReason.Incomplete, ended.FailureReason);
        Assert.StartsWith("1 of 4 machines is ready. vm-of-db: was not ready within 300 s", ended.FailureMessage, StringComparison.Ordinal);
        Assert.Contains("because it needs vm-of-app, which is not ready", ended.FailureMessage, StringComparison.Ordinal);
        var states = ended.Result.Recovery.Machines.ToDictionary(static machine => machine.VmName, static machine => machine.State);
        Assert.Equal((State.Failed, State.NotStarted, State.NotStarted, State.Ready), (states["vm-of-db"], states["vm-of-app"], states["vm-of-web"], states["vm-of-mail"]));
        Assert.Equal(0, ended.Result.Recovery.ActualSeconds);
    }

    [Fact]
    public async Task A_machine_that_cannot_be_restored_there_keeps_back_what_needs_it_before_a_byte_moves()
    {
        var job = await StartAsync();
        await CheckAllAsync(blocked: "db");
        var restores = await RestoresAsync(1);
        Assert.Equal(["mail"], restores.Keys);
        await ReachAsync(restores["mail"], "mail", StartStage.Restored);
        await UntilAsync(async () => await GateAsync("mail") == Gate.Open);
        await ReadyAsync(restores["mail"], "mail", 1);
        var ended = await EndAsync(job, JobState.Failed);
        Assert.Contains("vm-of-db: It cannot be restored there: no space", ended.FailureMessage, StringComparison.Ordinal);
        Assert.Contains("Neither restored nor started, because it needs vm-of-db", ended.FailureMessage, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_host_that_is_away_holds_up_only_what_needs_it()
    {
        var job = await StartAsync();
        foreach (var name in new[] { "app", "mail", "web" })
        {
            await CheckAllAsync(only: name);
        }
        await UntilAsync(async () =>
        {
            _world.Time.Advance(TimeSpan.FromSeconds(5));
            return (await _world.GetJobAsync(job)).Progress.Phase.Contains("restoring", StringComparison.Ordinal);
        });
        var restores = await RestoresAsync(1);
        Assert.Equal(["mail"], restores.Keys);
        await ReachAsync(restores["mail"], "mail", StartStage.Restored);
        await UntilAsync(async () => await GateAsync("mail") == Gate.Open);
        await ReadyAsync(restores["mail"], "mail", 1);
        Assert.Contains("agent 'db' could not be reached", (await EndAsync(job, JobState.Failed)).FailureMessage, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_restarted_controller_takes_a_run_up_where_it_is()
    {
        var job = await StartAsync();
        await CheckAllAsync();
        var restores = await RestoresAsync(4);
        await ReachAsync(restores["db"], "db", StartStage.Restored);
        await ReachAsync(restores["app"], "app", StartStage.Restored);
        await UntilAsync(async () => await GateAsync("db") == Gate.Open);
        await RestartAsync();
        Assert.Equal((Gate.Open, Gate.Closed), (await GateAsync("db"), await GateAsync("app")));
        // While it was away, and then again: agents repeat what they report.
        await ReadyAsync(restores["db"], "db", 3);
        await UntilAsync(async () => await GateAsync("app") == Gate.Open);
        await RestartAsync();
        Assert.Equal(Gate.Open, await GateAsync("app"));
        Assert.Equal(restores.Values.Order(), (await RestoresAsync(4)).Values.Order());
        await ReadyAsync(restores["app"], "app", 3);
        foreach (var name in new[] { "mail", "web" })
        {
            await ReachAsync(restores[name], name, StartStage.Restored);
            await UntilAsync(async () => await GateAsync(name) == Gate.Open);
            await ReadyAsync(restores[name], name, 3);
        }
        Assert.All((await EndAsync(job, JobState.Succeeded)).Result.Recovery.Machines, static machine => Assert.Equal(State.Ready, machine.State));
        var log = await _world.Role.Admin.GetJobLogAsync(new GetJobLogRequest { JobId = job }, World.Token);
        Assert.Equal(2, log.Lines.Count(static line => line.Text.StartsWith("taken up again", StringComparison.Ordinal)));
    }

    [Fact]
    public async Task Slots_bound_what_goes_on_at_once_and_waiting_takes_none()
    {
        var job = await StartAsync(parallel: 1);
        await CheckAllAsync();
        // What has the longest way before it goes first.
        var restores = await RestoresAsync(1);
        Assert.Equal(["db"], restores.Keys);
        await ReachAsync(restores["db"], "db", StartStage.Restored);
        await UntilAsync(async () => await GateAsync("db") == Gate.Open);
        Assert.Equal(["db"], (await RestoresAsync(1)).Keys);
        await ReadyAsync(restores["db"], "db", 1);
        restores = await RestoresAsync(2);
        Assert.Equal(["app", "db"], restores.Keys.Order());
        await _world.Role.Admin.CancelJobAsync(new CancelJobRequest { JobId = job }, World.Token);
        var cancelled = (await EndAsync(job, JobState.Cancelled)).Result.Recovery.Machines.ToDictionary(static machine => machine.VmName[6..], static machine => machine.State);
        Assert.Equal((State.Ready, State.Failed, State.NotStarted), (cancelled["db"], cancelled["app"], cancelled["web"]));
        Assert.NotEqual(JobState.Running, (await _world.GetJobAsync(restores["app"])).State);
    }

    [Fact]
    public async Task Points_are_chosen_by_time_and_an_agent_that_cannot_hold_back_a_start_is_not_asked()
    {
        var before = _world.Time.GetUtcNow();
        await RefusedAsync(FaultReason.NotFound, () => StartAsync(at: before.AddDays(-1)));
        _world.Time.Advance(TimeSpan.FromHours(1));
        await BackUpAsync(_agents["mail"], NewDisk(), _points["mail"]);
        await using var old = await ControlStream.OpenAsync(_agents["mail"], Id16.Create(SystemEntropy.Instance), new AgentCapabilities { RestoreOptions = 13 });
        var job = await StartAsync(at: before.AddMinutes(1), vms: ["mail"]);
        await CheckAllAsync(only: "mail");
        var ended = await EndAsync(job, JobState.Failed);
        Assert.Equal(_points["mail"], Assert.Single(ended.Result.Recovery.Machines).PointId);
        Assert.Contains("cannot hold back the start", ended.FailureMessage, StringComparison.Ordinal);
    }

    public async ValueTask DisposeAsync()
    {
        await _stop.CancelAsync();
        await _running.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        _stop.Dispose();
        await _world.DisposeAsync();
    }

    private string Vm(string name) => _agents[name].VmName;

    private async Task AddAsync(string name, string needs) => await Recovery.AddDependencyAsync(new AddDependencyRequest { Vm = Vm(name), Needs = Vm(needs) }, World.Token);

    private async Task ProbeAsync(ReadinessProbe probe) => await Recovery.SetProbeAsync(new SetProbeRequest { Vm = Vm("db"), Probe = probe }, World.Token);

    private async Task<string> StartAsync(bool dryRun = false, uint parallel = 0, DateTimeOffset? at = null, string[]? vms = null)
    {
        var request = new StartRecoveryRequest
        {
            DryRun = dryRun, Parallel = parallel, At = at is { } time ? Google.Protobuf.WellKnownTypes.Timestamp.FromDateTimeOffset(time) : null, Options = new RestoreOptions { Folder = "/srv/r" },
        };
        request.Vms.Add((vms ?? []).Select(Vm));
        return (await Recovery.StartRecoveryAsync(request, World.Token)).Job.JobId;
    }

    private async Task RestartAsync()
    {
        await _stop.CancelAsync();
        await _running.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        _stop.Dispose();
        await _world.RestartAsync();
        _stop = CancellationTokenSource.CreateLinkedTokenSource(World.Token);
        _running = _world.Role.RunAsync(_stop.Token);
    }

    /// <summary>Answers the checks of a run as agents do.</summary>
    private async Task CheckAllAsync(string? blocked = null, string? only = null)
    {
        foreach (var name in Names.Where(name => only is null || name == only))
        {
            var check = "";
            await UntilAsync(async () => (check = await FindAsync(name, Catalog.JobKind.RestoreCheck)).Length > 0);
            await _agents[name].ReportAsync(check, 1, JobState.Succeeded, report =>
            {
                report.CheckRestore = new CheckRestoreResult();
                if (name == blocked)
                {
                    report.CheckRestore.Findings.Add(new RestoreFinding { Item = "space", Severity = RestoreFinding.Types.Severity.Blocks, Message = "no space" });
                    return;
                }
                report.Survey = new RestoreSurvey { Path = "/srv", DataBytes = 1 << 30, SampleBytes = 4 << 20, SampleWireBytes = 1 << 20, SampleSeconds = 0.04 };
            });
        }
    }

    private async Task<string> FindAsync(string name, Catalog.JobKind kind) =>
        (await _world.Role.Catalog.Jobs.ListActiveAsync(World.Token)).LastOrDefault(job => job.Kind == kind && job.Agent == name)?.JobId.ToString() ?? "";

    /// <summary>The restores that were begun, when there are so many.</summary>
    private async Task<Dictionary<string, string>> RestoresAsync(int count)
    {
        Dictionary<string, string> restores = [];
        await UntilAsync(async () =>
        {
            restores = (await _world.Role.Catalog.Jobs.ListAsync(null, false, null, 100, World.Token)).Where(static job => job.Kind == Catalog.JobKind.Restore)
                .ToDictionary(static job => job.Agent, static job => job.JobId.ToString());
            return restores.Count >= count;
        });
        Assert.Equal(count, restores.Count);
        return restores;
    }

    private RestoreTask Assigned(string name) => _world.Role.Jobs.GetAssignments(name).Jobs.Single(static job => job.Restore is not null).Restore;

    private async Task<Gate> GateAsync(string name) => StartOrder.Parser.ParseFrom(
        (await _world.Role.Catalog.Jobs.ListAsync(null, false, null, 100, World.Token)).First(job => job.Kind == Catalog.JobKind.Restore && job.Agent == name).Start).Gate;

    private Task ReachAsync(string job, string name, StartStage stage) =>
        _agents[name].ReportAsync(job, 1, JobState.Running, report => report.Progress = new Progress { Phase = "waiting", BytesTotal = 100, BytesDone = 100, StartStage = stage });

    private Task ReadyAsync(string job, string name, double seconds) => _agents[name].ReportAsync(job, 1, JobState.Succeeded, report =>
    {
        report.Progress = new Progress { Phase = "waiting until it is ready", StartStage = StartStage.Probing };
        report.Restore = new AgentResult { Running = true, ElapsedSeconds = 1, ReadySeconds = seconds };
    });

    private async Task<Protocol.Admin.V1.Job> EndAsync(string job, JobState state)
    {
        await UntilAsync(async () => (await _world.GetJobAsync(job)).State is JobState.Succeeded or JobState.Failed or JobState.Cancelled);
        var ended = await _world.GetJobAsync(job);
        Assert.True(ended.State == state, $"{ended.State}: {ended.FailureMessage}");
        return ended;
    }

    private async Task<Protocol.Admin.V1.Job> UntilPhaseAsync(string job, string phase)
    {
        await UntilAsync(async () => (await _world.GetJobAsync(job)).Progress?.Phase.StartsWith(phase, StringComparison.Ordinal) == true);
        return await _world.GetJobAsync(job);
    }

    private static async Task UntilAsync(Func<Task<bool>> isSo)
    {
        for (var i = 0; !await isSo(); i++)
        {
            Assert.True(i < 3000, "It did not come to that.");
            await Task.Delay(5, World.Token);
        }
    }
}
