using Google.Protobuf;
using VirtBackup.Controller.Tests.Fixtures;
using VirtBackup.Core;
using VirtBackup.Format;
using VirtBackup.Format.Records;
using VirtBackup.Identity;
using VirtBackup.Protocol.Admin.V1;
using VirtBackup.Protocol.Agent.V1;
using VirtBackup.Protocol.Common.V1;
using VirtBackup.Protocol.Store.V1;
using VirtBackup.Testing.Stores;
using RecordKind = VirtBackup.Protocol.Store.V1.RecordKind;

namespace VirtBackup.Controller.Tests;

/// <summary>Runs that look like an encrypted machine, and what they do to the points before them.</summary>
public sealed class SignalTests : IAsyncLifetime
{
    private const int ChunkBytes = 4096;

    private static readonly Caller Alice = new(PeerRole.Operator, "alice", Id16.Empty, Id16.Empty);

    private readonly byte[] _disk = new byte[400 * ChunkBytes];
    private readonly Random _random = new(5);
    private World _world = null!;
    private TestAgent _agent = null!;
    private FaultReason? _manifestFault;

    public async ValueTask InitializeAsync()
    {
        _world = await World.CreateAsync(operation => operation.Step == SimulatedStep.GiveName && operation.Key?.StartsWith(ObjectKeys.RecoveryPointsPrefix, StringComparison.Ordinal) == true ? _manifestFault : null);
        _agent = await _world.EnrollAsync();
    }

    public ValueTask DisposeAsync() => _world.DisposeAsync();

    [Fact]
    public async Task An_encrypted_machine_is_flagged_and_the_points_before_it_are_held_until_it_is_accepted()
    {
        var points = await LiveAsync(7);
        var usual = await ShowAsync();
        Assert.Equal((7, 0U), (usual.RecentRuns.Count, usual.VirtualMachine.FlaggedRuns));
        Assert.Equal([RunVerdict.Usual, RunVerdict.Learning], usual.RecentRuns.Select(static run => run.Verdict).Distinct());
        Assert.Equal((20UL * ChunkBytes, 0.05), (usual.RecentRuns[0].NewBytes, usual.RecentRuns[0].NewShare));
        Assert.InRange(usual.RecentRuns[0].StoredShare, 0.05, 0.8);

        Encrypt();
        var attacked = await BackUpAsync();
        var shown = await ShowAsync();
        Assert.Equal((RunVerdict.Abnormal, 1U), (shown.RecentRuns[0].Verdict, shown.VirtualMachine.FlaggedRuns));
        Assert.Contains("75 % of the machine was new data (usually 5.0 %)", shown.RecentRuns[0].Explanation, StringComparison.Ordinal);
        Assert.Equal(1U, (await _world.Role.Admin.GetStatusAsync(World.Token)).VirtualMachinesFlagged);
        foreach (var point in points)
        {
            var hold = Assert.Single((await GetAsync(point)).Retention.Holds);
            Assert.Equal(("run-signals", true), (hold.PlacedBy, hold.BySystem));
            await RefusedAsync(FaultReason.FailedPrecondition, () => ForgetAsync(point));
        }
        Assert.Empty((await GetAsync(attacked)).Retention.Holds);

        // The next one holds nothing twice, and what was flagged not at all.
        Encrypt();
        await BackUpAsync();
        Assert.Single((await GetAsync(points[0])).Retention.Holds);
        Assert.Empty((await GetAsync(attacked)).Retention.Holds);

        var accepted = await AcceptAsync();
        Assert.Equal((2U, 7U), (accepted.RunsAccepted, accepted.HoldsReleased));
        Assert.Empty((await GetAsync(points[0])).Retention.Holds);
        Assert.Equal([RunVerdict.Accepted, RunVerdict.Accepted], (await ShowAsync()).RecentRuns.Take(2).Select(static run => run.Verdict));
        await RefusedAsync(FaultReason.FailedPrecondition, AcceptAsync);
    }

    [Fact]
    public async Task Holds_stand_before_the_point_does_and_survive_a_restart()
    {
        var points = await LiveAsync(7);
        Encrypt();
        _manifestFault = FaultReason.Unavailable;
        await Assert.ThrowsAsync<FaultException>(BackUpAsync);
        _manifestFault = null;
        await _world.RestartAsync();
        Assert.Single((await GetAsync(points[^1])).Retention.Holds);
        Assert.Equal(RunVerdict.Abnormal, (await ShowAsync()).RecentRuns[0].Verdict);
    }

    [Fact]
    public async Task What_a_run_that_was_cut_off_sent_counts_for_the_next()
    {
        await LiveAsync(7);
        Encrypt();
        var (job, backup, session) = await BeginAsync();
        await backup.UploadAsync();
        await _world.Role.Store.AbandonSessionAsync(_agent.Caller, new AbandonSessionRequest { SessionId = session });
        await _agent.ReportAsync(job, 1, JobState.Failed, static report => report.FailureMessage = "cut off");
        await BackUpAsync();
        var run = (await ShowAsync()).RecentRuns[0];
        Assert.Equal((RunVerdict.Abnormal, 300UL * ChunkBytes), (run.Verdict, run.NewBytes));
    }

    private async Task<List<string>> LiveAsync(int runs)
    {
        Write(0, 400);
        var points = new List<string>();
        for (var i = 0; i < runs; i++)
        {
            points.Add(await BackUpAsync());
            Write(_random.Next(19) * 20, 20);
        }
        return points;
    }

    /// <summary>Words, as documents have them.</summary>
    private void Write(int chunk, int count)
    {
        foreach (ref var value in _disk.AsSpan(chunk * ChunkBytes, count * ChunkBytes))
        {
            value = (byte)"etaoin shrdlu"[_random.Next(13)];
        }
    }

    private void Encrypt() => _random.NextBytes(_disk.AsSpan(0, 300 * ChunkBytes));

    private async Task<string> BackUpAsync()
    {
        var (job, backup, _) = await BeginAsync();
        await backup.UploadAsync();
        await backup.CommitAsync();
        await _agent.ReportAsync(job, 1, JobState.Succeeded, report => report.Backup = new BackupResult { PointId = backup.Head.Point.ToString() });
        _world.Time.Advance(TimeSpan.FromDays(1));
        return backup.Head.Point.ToString();
    }

    private async Task<(string Job, SealedBackup Backup, string Session)> BeginAsync()
    {
        var job = await _world.StartBackupAsync(_agent);
        var session = await StoreTests.BeginAsync(_agent, job);
        var backup = new SealedBackup(_agent, session, Id16.Parse(job.PointId), 1, _disk);
        var ids = ByteString.CopyFrom([.. backup.Chunks.SelectMany(static chunk => RecordHeader.Parse(chunk).Id.ToArray())]);
        var probed = await _world.Role.Store.ProbeChunksAsync(_agent.Caller, new ProbeChunksRequest { SessionId = session.SessionId, Kind = RecordKind.Data, Ids = ids }, World.Token);
        for (var i = backup.Chunks.Count - 1; i >= 0; i--)
        {
            if ((probed.PresentBitmap[i / 8] >> (i % 8) & 1) == 1)
            {
                backup.Chunks.RemoveAt(i);
            }
        }
        return (job.JobId, backup, session.SessionId);
    }

    private async Task<GetVirtualMachineResponse> ShowAsync() => await _world.Role.Admin.GetVirtualMachineAsync(new GetVirtualMachineRequest { Vm = _agent.VmName }, World.Token);

    private async Task<AcceptRunsResponse> AcceptAsync() => await _world.Role.Admin.AcceptRunsAsync(Alice, new AcceptRunsRequest { Vm = _agent.VmName }, World.Token);

    private async Task<RecoveryPoint> GetAsync(string point) =>
        (await _world.Role.Admin.GetRecoveryPointAsync(new GetRecoveryPointRequest { Point = point }, World.Token)).RecoveryPoint;

    private async Task ForgetAsync(string point) => await _world.Role.Admin.ForgetRecoveryPointAsync(new ForgetRecoveryPointRequest { Point = point }, World.Token);

    private static async Task RefusedAsync(FaultReason reason, Func<Task> call) => Assert.Equal(reason, (await Assert.ThrowsAsync<FaultException>(call)).Reason);
}
