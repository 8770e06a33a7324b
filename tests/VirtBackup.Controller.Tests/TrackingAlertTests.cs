using VirtBackup.Controller.Tests.Fixtures;
using VirtBackup.Core;
using VirtBackup.Format.Manifests;
using VirtBackup.Identity;
using VirtBackup.Protocol.Admin.V1;
using VirtBackup.Protocol.Agent.V1;
using VirtBackup.Protocol.Common.V1;

namespace VirtBackup.Controller.Tests;

/// <summary>What audits of change tracking found, and whom it is told.</summary>
public sealed class TrackingAlertTests : IAsyncLifetime
{
    private static readonly Caller Alice = new(PeerRole.Operator, "alice", Id16.Empty, Id16.Empty);

    private static readonly AuditStatistics Audited = new()
    {
        UnchangedBlocks = 3000, AuditedBlocks = 100, AuditedBytes = 100 << 16, Runs = 30, RunsTaken = 3, RunsLeft = 27, RotatedBytes = 300L << 16, RotationBytes = 3000L << 16,
    };

    private readonly byte[] _disk = new byte[1 << 16];
    private World _world = null!;
    private TestAgent _agent = null!;

    public async ValueTask InitializeAsync()
    {
        _world = await World.CreateAsync();
        _agent = await _world.EnrollAsync();
    }

    public ValueTask DisposeAsync() => _world.DisposeAsync();

    [Fact]
    public async Task Odds_and_days_to_a_whole_rotation_are_told_by_the_pace_of_the_machine()
    {
        await BackUpAsync(null);
        Assert.Null((await ShowAsync()).TrackingAudit);
        await BackUpAsync(Audited with { RunsTaken = 1, RunsLeft = 29 });
        var point = await BackUpAsync(Audited);
        var shown = await ShowAsync();
        var audit = shown.TrackingAudit;
        Assert.Equal((point, 27U, 3U, 30U), (audit.PointId, audit.RunsLeft, audit.RunsTaken, audit.Runs));
        Assert.Equal(100 / 3000.0, audit.Detects1, 1e-12);
        Assert.Equal(Audited.DetectionOf(10), audit.Detects10);
        Assert.InRange(audit.Detects100, 0.96, 0.97);
        Assert.Equal(27, audit.DaysLeft, 0.01);
        Assert.Equal([(100UL << 16, 0UL), (100UL << 16, 0UL), (0UL, 0UL)], shown.RecentRuns.Select(static run => (run.AuditedBytes, run.AuditMisses)));
        Assert.False(shown.VirtualMachine.TrackingAlert);
        Assert.Null(audit.RotationTime);
        await BackUpAsync(Audited with { RunsLeft = 0 });
        Assert.NotNull((await ShowAsync()).TrackingAudit.RotationTime);
    }

    [Fact]
    public async Task A_miss_is_an_alert_until_somebody_accepts_it()
    {
        await BackUpAsync(Audited with { Misses = 2, Miss = "disk vda, 4096 bytes at 8192" });
        await BackUpAsync(Audited);
        var shown = await ShowAsync();
        Assert.True(shown.VirtualMachine.TrackingAlert);
        Assert.Equal("disk vda, 4096 bytes at 8192", shown.TrackingAudit.Miss);
        Assert.NotNull(shown.TrackingAudit.MissTime);
        Assert.Null(shown.TrackingAudit.SuspectTime);
        Assert.Equal([0UL, 2UL], shown.RecentRuns.Select(static run => run.AuditMisses));
        Assert.Equal(1U, (await _world.Role.Admin.GetStatusAsync(World.Token)).VirtualMachinesSuspect);
        await _world.RestartAsync();
        Assert.True((await AcceptAsync()).TrackingAlertAccepted);
        Assert.False((await ShowAsync()).VirtualMachine.TrackingAlert);
        Assert.Equal(0U, (await _world.Role.Admin.GetStatusAsync(World.Token)).VirtualMachinesSuspect);
        Assert.Equal(FaultReason.FailedPrecondition, (await Assert.ThrowsAsync<FaultException>(AcceptAsync)).Reason);
    }

    [Fact]
    public async Task A_machine_is_suspect_from_the_report_of_a_miss_until_a_point_is_committed()
    {
        await BackUpAsync(Audited);
        var job = await _world.StartBackupAsync(_agent);
        await ReportAsync(new JobReport { JobId = job.JobId, Attempt = 1, State = JobState.Failed, FailureMessage = "cut off", Progress = new Progress { AuditMisses = 1 } });
        var suspect = await ShowAsync();
        Assert.True(suspect.VirtualMachine.TrackingAlert);
        Assert.NotNull(suspect.TrackingAudit.SuspectTime);
        Assert.Contains(job.JobId, suspect.TrackingAudit.Miss, StringComparison.Ordinal);
        await BackUpAsync(null);
        var after = await ShowAsync();
        Assert.Null(after.TrackingAudit.SuspectTime);
        Assert.True(after.VirtualMachine.TrackingAlert);
        // A report that comes late changes nothing.
        job = await _world.StartBackupAsync(_agent);
        await CommitAsync(job, Audited with { Misses = 1, Miss = "somewhere" });
        await ReportAsync(new JobReport { JobId = job.JobId, Attempt = 1, State = JobState.Running, Progress = new Progress { AuditMisses = 1 } });
        Assert.Null((await ShowAsync()).TrackingAudit.SuspectTime);
    }

    private async Task<string> BackUpAsync(AuditStatistics? audit)
    {
        var job = await _world.StartBackupAsync(_agent);
        var point = await CommitAsync(job, audit);
        await _agent.ReportAsync(job.JobId, 1, JobState.Succeeded, report => report.Backup = new BackupResult { PointId = point });
        _world.Time.Advance(TimeSpan.FromDays(1));
        return point;
    }

    private async Task<string> CommitAsync(Protocol.Admin.V1.Job job, AuditStatistics? audit)
    {
        var session = await StoreTests.BeginAsync(_agent, job);
        var backup = new SealedBackup(_agent, session, Id16.Parse(job.PointId), 1, _disk) { Audit = audit };
        await backup.UploadAsync();
        await backup.CommitAsync();
        return backup.Head.Point.ToString();
    }

    private async Task ReportAsync(JobReport report)
    {
        await using var control = await ControlStream.OpenAsync(_agent, Id16.Create(SystemEntropy.Instance));
        await control.SendAsync(new ConnectRequest { JobReport = report });
        await control.GoodbyeAsync();
    }

    private async Task<GetVirtualMachineResponse> ShowAsync() =>
        await _world.Role.Admin.GetVirtualMachineAsync(new GetVirtualMachineRequest { Vm = _agent.VmName }, World.Token);

    private Task<AcceptRunsResponse> AcceptAsync() => _world.Role.Admin.AcceptRunsAsync(Alice, new AcceptRunsRequest { Vm = _agent.VmName }, World.Token).AsTask();
}
