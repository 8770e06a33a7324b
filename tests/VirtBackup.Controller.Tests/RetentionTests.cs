using Google.Protobuf.WellKnownTypes;
using VirtBackup.Controller.Retention;
using VirtBackup.Controller.Tests.Fixtures;
using VirtBackup.Core;
using VirtBackup.Format;
using VirtBackup.Identity;
using VirtBackup.Protocol.Admin.V1;
using VirtBackup.Protocol.Common.V1;
using VirtBackup.Testing.Stores;

namespace VirtBackup.Controller.Tests;

public sealed class RetentionTests : IAsyncLifetime
{
    private static readonly Caller Alice = new(PeerRole.Operator, "alice", Id16.Empty, Id16.Empty);
    private static readonly TimeSpan Day = TimeSpan.FromDays(1);

    private readonly CancellationTokenSource _stop = CancellationTokenSource.CreateLinkedTokenSource(World.Token);
    private World _world = null!;
    private TestAgent _agent = null!;
    private Task _running = Task.CompletedTask;
    private string _unremovable = "none";
    private string _lastJob = "";

    private RetentionEndpoint Retention => _world.Role.Retention;

    public async ValueTask InitializeAsync()
    {
        _world = await World.CreateAsync(operation =>
            operation.Step == SimulatedStep.RemoveName && operation.Key!.Contains(_unremovable, StringComparison.Ordinal) ? FaultReason.Unavailable : null);
        _agent = await _world.EnrollAsync();
        _running = _world.Role.RunAsync(_stop.Token);
    }

    [Fact]
    public async Task What_no_rule_keeps_expires_and_is_told_with_the_reason()
    {
        var points = await BackUpDailyAsync(5);
        Assert.Equal(0UL, (await ApplyAsync()).ExpiredTotal);
        await SetAsync("usual", new RetentionRules { KeepDaily = 2 }, SetRuleSetRequest.Types.Default.Yes);
        var result = await ApplyAsync(_agent.VmName);
        Assert.Equal((3UL, 2UL, 0UL), (result.ExpiredTotal, result.PointsKept, result.FailedTotal));
        Assert.Equal(points[..3], result.Expired.Select(static point => point.PointId));
        Assert.Equal("no rule of 'usual' (daily 2) keeps it", result.Expired[0].Reason);
        Assert.Equal([points[4], points[3]], await ListAsync());
        Assert.Equal(3, (await _world.Repository.ListForgottenAsync(World.Token)).Count);
        var log = await _world.Role.Admin.GetJobLogAsync(new GetJobLogRequest { JobId = _lastJob }, World.Token);
        Assert.Equal(3, log.Lines.Count(static line => line.Text.Contains("expired: no rule of 'usual'", StringComparison.Ordinal)));
        // It can be brought back, and goes again at the next run.
        await ForgetAsync(points[1], undo: true);
        Assert.Equal(points[1], Assert.Single((await ApplyAsync()).Expired).PointId);
    }

    [Fact]
    public async Task It_runs_every_hour_by_itself()
    {
        var points = await BackUpDailyAsync(3);
        await SetAsync("usual", new RetentionRules { KeepLast = 1 }, SetRuleSetRequest.Types.Default.Yes);
        await AdvanceUntilAsync(async () => (await ListAsync()).SequenceEqual([points[2]]));
    }

    [Fact]
    public async Task Holds_locks_uses_and_the_last_verified_point_stay()
    {
        var points = await BackUpDailyAsync(6);
        await VerifyAsync(points[3]);
        await VerifyAsync(points[2]);
        var first = (await Retention.HoldPointAsync(Alice, new HoldPointRequest { Point = points[0], Reason = "court" }, World.Token)).Hold;
        await Retention.HoldPointAsync(Alice, new HoldPointRequest { Point = points[0], Reason = "audit" }, World.Token);
        Assert.Equal(("court", "alice", false), (first.Reason, first.PlacedBy, first.BySystem));
        await LockAsync(points[1], _world.Time.GetUtcNow() + (5 * Day));
        var restore = (await _world.Role.Admin.StartRestoreAsync(new StartRestoreRequest { Point = points[4], Agent = _agent.Name }, World.Token)).Job;
        await SetAsync("strict", new RetentionRules { KeepLast = 1 });
        await AttachAsync("strict");
        Assert.Equal(points[2], Assert.Single((await ApplyAsync()).Expired).PointId);

        var described = await Task.WhenAll(new[] { 0, 1, 3, 4, 5 }.Select(async i => (await GetAsync(points[i])).Retention));
        Assert.Equal(["held", "locked", "last verified", "in use", "last 1 of 1, latest"], described.Select(static retention => string.Join(", ", retention.KeptBy)));
        Assert.Equal(["audit", "court"], described[0].Holds.Select(static hold => hold.Reason).Order());
        Assert.True(described[2].Verified);
        Assert.Equal("strict", described[4].RuleSet);
        Assert.Equal(described[1].LockTime, described[1].ExpireTime);

        // By hand they do not go either.
        await RefusedAsync(FaultReason.FailedPrecondition, () => ForgetAsync(points[0]));
        await RefusedAsync(FaultReason.RetentionLocked, () => ForgetAsync(points[1]));
        // Released one by one.
        await RefusedAsync(FaultReason.FailedPrecondition, () => ReleaseAsync(points[0], ""));
        await ReleaseAsync(points[0], first.HoldId[..8]);
        Assert.Empty((await ApplyAsync()).Expired);
        await ReleaseAsync(points[0], "");
        await RefusedAsync(FaultReason.NotFound, () => ReleaseAsync(points[0], ""));
        await _world.Role.Admin.CancelJobAsync(new CancelJobRequest { JobId = restore.JobId }, World.Token);
        Assert.Equal([points[0], points[4]], (await ApplyAsync()).Expired.Select(static point => point.PointId));
        await PassAsync(6 * Day);
        // The hourly run may be the first.
        await ApplyAsync();
        Assert.Equal([points[5], points[3]], await ListAsync());
    }

    [Fact]
    public async Task A_point_that_cannot_go_does_not_keep_the_others()
    {
        var points = await BackUpDailyAsync(4);
        await SetAsync("usual", new RetentionRules { KeepLast = 1 }, SetRuleSetRequest.Types.Default.Yes);
        _unremovable = $"recovery-points/{_agent.VmId}/{points[1]}";
        var result = await ApplyAsync();
        Assert.Equal((2UL, 1UL, 1UL), (result.ExpiredTotal, result.FailedTotal, result.PointsKept));
        Assert.Equal(points[1], Assert.Single(result.Failed).PointId);
        Assert.Equal([points[3], points[1]], await ListAsync());
        _unremovable = "none";
        Assert.Equal(points[1], Assert.Single((await ApplyAsync()).Expired).PointId);
    }

    [Fact]
    public async Task The_base_of_a_backup_under_way_stays()
    {
        var points = await BackUpDailyAsync(3);
        await SetAsync("usual", new RetentionRules { KeepLast = 1 }, SetRuleSetRequest.Types.Default.Yes);
        var job = await _world.StartBackupAsync(_agent);
        await StoreTests.BeginAsync(_agent, job, basePoint: points[0]);
        Assert.Equal(points[1], Assert.Single((await ApplyAsync()).Expired).PointId);
        Assert.Contains("in use", (await GetAsync(points[0])).Retention.KeptBy);
    }

    [Fact]
    public async Task Locks_are_lengthened_never_shortened_and_bounded()
    {
        var point = (await BackUpDailyAsync(1))[0];
        var now = _world.Time.GetUtcNow();
        await LockAsync(point, now + Day);
        await LockAsync(point, now + (3 * Day));
        await RefusedAsync(FaultReason.FailedPrecondition, () => LockAsync(point, now + (2 * Day)));
        await RefusedAsync(FaultReason.InvalidArgument, () => LockAsync(point, now - Day));
        await RefusedAsync(FaultReason.InvalidArgument, () => LockAsync(point, now + (3651 * Day)));
        await RefusedAsync(FaultReason.InvalidArgument, () => Retention.LockPointAsync(new LockPointRequest { Point = point }, World.Token).AsTask());
        Assert.Equal(now + (3 * Day), (await GetAsync(point)).Retention.LockTime.ToDateTimeOffset());
        Assert.NotNull(await _world.Store.FindAsync(ObjectKeys.Lock(Id16.Parse(point), (now + (3 * Day)).ToUnixTimeMilliseconds()), World.Token));
        // A lock is the repository's, not the catalog's.
        await EndAsync(_stop, _running);
        await _world.RestartAsync(loseCatalog: true);
        await RefusedAsync(FaultReason.RetentionLocked, () => ForgetAsync(point));
    }

    [Fact]
    public async Task After_a_jump_of_the_clock_nothing_expires_until_somebody_confirms()
    {
        var points = await BackUpDailyAsync(3);
        await LockAsync(points[0], _world.Time.GetUtcNow() + (20 * Day));
        await SetAsync("usual", new RetentionRules { KeepLast = 1 }, SetRuleSetRequest.Types.Default.Yes);
        await EndAsync(_stop, _running);
        // Nobody knows how long it was away: the world names no boot.
        _world.Time.Advance(30 * Day);
        await _world.RestartAsync();
        using var again = CancellationTokenSource.CreateLinkedTokenSource(World.Token);
        var running = _world.Role.RunAsync(again.Token);
        var status = await _world.Role.Admin.GetStatusAsync(World.Token);
        Assert.True(status.TimeUnconfirmed);
        Assert.True(status.TrustedTime.ToDateTimeOffset() < _world.Time.GetUtcNow() - (29 * Day));
        var failed = await RunJobAsync(new StartRetentionRequest());
        Assert.Equal((JobState.Failed, ErrorReason.FailedPrecondition), (failed.State, failed.FailureReason));
        Assert.Contains("confirm-time", failed.FailureMessage);
        await RefusedAsync(FaultReason.RetentionLocked, () => ForgetAsync(points[0]));
        Assert.Equal(3, (await ListAsync()).Count);

        await RefusedAsync(FaultReason.FailedPrecondition, () => ConfirmAsync(_world.Time.GetUtcNow() - (30 * Day)));
        await ConfirmAsync(_world.Time.GetUtcNow());
        Assert.False((await _world.Role.Admin.GetStatusAsync(World.Token)).TimeUnconfirmed);
        Assert.Equal(2UL, (await ApplyAsync()).ExpiredTotal);
        await EndAsync(again, running);
    }

    [Fact]
    public async Task Rule_sets_are_managed_and_machines_say_what_governs_them()
    {
        await BackUpDailyAsync(1);
        Assert.Equal("", (await GetMachineAsync()).Retention.RuleSet);
        Assert.Contains("no rules", Assert.Single((await GetAsync($"{_agent.VmName}@latest")).Retention.KeptBy, static reason => reason != "latest"));
        await SetAsync("usual", new RetentionRules { KeepDaily = 7 }, SetRuleSetRequest.Types.Default.Yes);
        await SetAsync("gold", new RetentionRules { KeepDaily = 30, KeepWithinHours = 48 });
        Assert.Equal(["gold", "usual"], (await Retention.ListRuleSetsAsync(World.Token)).RuleSets.Select(static set => set.Name));
        Assert.Equal(("usual", true), NameOf(await GetMachineAsync()));
        await AttachAsync("gold");
        Assert.Equal(("gold", false), NameOf(await GetMachineAsync()));
        var shown = await Retention.GetRuleSetAsync(new GetRuleSetRequest { Name = "gold" }, World.Token);
        Assert.Equal((48u, 1u, _agent.VmName), (shown.RuleSet.Rules.KeepWithinHours, shown.RuleSet.VirtualMachines, Assert.Single(shown.VirtualMachines)));
        await RefusedAsync(FaultReason.FailedPrecondition, () => Retention.DeleteRuleSetAsync(new DeleteRuleSetRequest { Name = "gold" }, World.Token).AsTask());
        Assert.Equal("usual", (await Retention.DetachRuleSetAsync(new DetachRuleSetRequest { Vm = _agent.VmName }, World.Token)).Retention.RuleSet);
        await Retention.DeleteRuleSetAsync(new DeleteRuleSetRequest { Name = "gold" }, World.Token);
        await RefusedAsync(FaultReason.NotFound, () => Retention.GetRuleSetAsync(new GetRuleSetRequest { Name = "gold" }, World.Token).AsTask());
        await RefusedAsync(FaultReason.InvalidArgument, () => SetAsync("usual", new RetentionRules { KeepDaily = uint.MaxValue }));
    }

    [Fact]
    public async Task A_simulation_says_when_each_point_goes_and_changes_nothing()
    {
        var points = await BackUpDailyAsync(4);
        var newest = (await GetAsync(points[3])).CreateTime.ToDateTimeOffset();
        var simulation = await Retention.SimulateRetentionAsync(
            new SimulateRetentionRequest { Vm = _agent.VmName, Rules = new RetentionRules { KeepDaily = 2 } }, World.Token);
        Assert.Equal((1440u, 2u), (simulation.IntervalMinutes, simulation.PointsAtEnd));
        Assert.Equal(points.Reverse(), simulation.RecoveryPoints.Select(static point => point.PointId));
        Assert.Equal(
            [newest + (2 * Day), newest + Day, simulation.Now.ToDateTimeOffset(), simulation.Now.ToDateTimeOffset()],
            simulation.RecoveryPoints.Select(static point => point.Retention.ExpireTime.ToDateTimeOffset()));
        var none = await Retention.SimulateRetentionAsync(new SimulateRetentionRequest { Vm = _agent.VmName, NoFurtherPoints = true }, World.Token);
        Assert.True(none.Settled && none.RecoveryPoints.All(static point => point.Retention.ExpireTime is null));
        Assert.Equal(4, (await ListAsync()).Count);
    }

    public async ValueTask DisposeAsync()
    {
        await EndAsync(_stop, _running);
        _stop.Dispose();
        await _world.DisposeAsync();
    }

    private static async Task EndAsync(CancellationTokenSource stop, Task running)
    {
        await stop.CancelAsync();
        await running.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing | ConfigureAwaitOptions.ContinueOnCapturedContext);
    }

    private async Task<string[]> BackUpDailyAsync(int count)
    {
        var points = new string[count];
        for (var i = 0; i < count; i++)
        {
            await PassAsync(Day);
            var disk = new byte[4096];
            disk[0] = (byte)(i + 1);
            points[i] = (await StoreTests.BackUpAsync(_agent, disk)).PointId;
        }
        return points;
    }

    /// <summary>Both clocks go on, in steps in which the controller looks at them.</summary>
    private async Task PassAsync(TimeSpan time)
    {
        _world.Time.Advance(time);
        _ = await _world.Role.Clock.ReadAsync(World.Token);
    }

    private async Task AdvanceUntilAsync(Func<Task<bool>> condition)
    {
        for (var i = 0; !await condition(); i++)
        {
            Assert.True(i < 500, "It did not happen.");
            _world.Time.Advance(TimeSpan.FromMinutes(5));
            await Task.Delay(10, World.Token);
        }
    }

    private async Task<RetentionResult> ApplyAsync(string vm = "")
    {
        var job = await RunJobAsync(new StartRetentionRequest { Vm = vm });
        Assert.True(job.State == JobState.Succeeded, job.FailureMessage);
        return job.Result.Retention;
    }

    private async Task<Job> RunJobAsync(StartRetentionRequest request)
    {
        var job = (await Retention.StartRetentionAsync(request, World.Token)).Job;
        _lastJob = job.JobId;
        return await WatchAsync(job);
    }

    private async Task VerifyAsync(string point)
    {
        var job = await WatchAsync((await _world.Role.Admin.StartVerifyAsync(new StartVerifyRequest { Point = point }, World.Token)).Job);
        Assert.Equal(0UL, job.Result.Verify.DamagesTotal);
    }

    private async Task<Job> WatchAsync(Job job)
    {
        await foreach (var response in _world.Role.Admin.WatchJobAsync(new WatchJobRequest { JobId = job.JobId }, World.Token))
        {
            job = response.Job;
        }
        return job;
    }

    private async Task SetAsync(string name, RetentionRules rules, SetRuleSetRequest.Types.Default isDefault = SetRuleSetRequest.Types.Default.Unspecified) =>
        await Retention.SetRuleSetAsync(new SetRuleSetRequest { Name = name, Rules = rules, Default = isDefault }, World.Token);

    private async Task AttachAsync(string name) => await Retention.AttachRuleSetAsync(new AttachRuleSetRequest { Vm = _agent.VmName, RuleSet = name }, World.Token);

    private async Task LockAsync(string point, DateTimeOffset until) =>
        await Retention.LockPointAsync(new LockPointRequest { Point = point, Until = Timestamp.FromDateTimeOffset(until) }, World.Token);

    private async Task ReleaseAsync(string point, string hold) => await Retention.ReleasePointAsync(new ReleasePointRequest { Point = point, HoldId = hold }, World.Token);

    private async Task ConfirmAsync(DateTimeOffset time) => await Retention.ConfirmTimeAsync(new ConfirmTimeRequest { OperatorTime = Timestamp.FromDateTimeOffset(time) }, World.Token);

    private async Task ForgetAsync(string point, bool undo = false) =>
        await _world.Role.Admin.ForgetRecoveryPointAsync(new ForgetRecoveryPointRequest { Point = point, Undo = undo }, World.Token);

    private async Task<RecoveryPoint> GetAsync(string point) =>
        (await _world.Role.Admin.GetRecoveryPointAsync(new GetRecoveryPointRequest { Point = point }, World.Token)).RecoveryPoint;

    private async Task<VirtualMachine> GetMachineAsync() =>
        (await _world.Role.Admin.GetVirtualMachineAsync(new GetVirtualMachineRequest { Vm = _agent.VmName }, World.Token)).VirtualMachine;

    private async Task<List<string>> ListAsync() =>
        [.. (await _world.Role.Admin.ListRecoveryPointsAsync(new ListRecoveryPointsRequest(), World.Token)).RecoveryPoints.Select(static point => point.PointId)];

    private static (string Name, bool IsDefault) NameOf(VirtualMachine machine) => (machine.Retention.RuleSet, machine.Retention.IsDefault);

    private static async Task RefusedAsync(FaultReason reason, Func<Task> call) => Assert.Equal(reason, (await Assert.ThrowsAsync<FaultException>(call)).Reason);
}
