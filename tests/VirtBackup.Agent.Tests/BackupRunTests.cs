using CsCheck;
using VirtBackup.Agent.Capture;
using VirtBackup.Agent.Tests.Fakes;
using VirtBackup.Core;
using VirtBackup.Protocol.Common.V1;

namespace VirtBackup.Agent.Tests;

public sealed class BackupRunTests
{
    private const int Chunk = 256 << 10;

    [Fact]
    public void FullThenIncrementalThenRestoreGivesTheSameBytes() =>
        Gen.Select(Gen.Int[1, 1 << 20], Gen.Int[0, 3 << 20], Gen.Select(Gen.Double[0, 1], Gen.Int[1, 300_000], Gen.Bool).Array[0, 6]).Sample(
            (seed, length, writes) => FullThenIncrementalAsync(seed, length, writes).GetAwaiter().GetResult(), iter: 25, threads: 1);

    private static async Task FullThenIncrementalAsync(int seed, int length, (double Place, int Length, bool Zeros)[] writes)
    {
        using var rig = new Rig(seed, Sparse(seed, length), Sparse(seed + 1, 700_001));
        var full = await rig.BackupAsync();
        await rig.RequireRestorableAsync(full.PointId);
        foreach (var (place, count, zeros) in writes)
        {
            var offset = (int)(place * length);
            rig.Disk.Write(offset, zeros ? new byte[Math.Min(count, length - offset)] : Rig.RandomBytes(seed + offset, Math.Min(count, length - offset)));
        }
        var next = await rig.BackupAsync();
        Assert.All(next.Disks, disk => Assert.True(disk.ChangedOnly));
        Assert.True(next.BytesRead <= (ulong)writes.Sum(write => write.Length + (2 * Chunk)));
        await rig.RequireRestorableAsync(next.PointId);
        Assert.Equal(["commit", "commit"], rig.Hypervisor.Ends);
        Assert.Equal(0, rig.Store.SessionsOpen);
        Assert.Equal(rig.Store.DataRecords.Count, rig.Store.DataRecords.Distinct().Count());
    }

    /// <summary>Sealing is random, and the repository refuses other bytes under a key object's name.</summary>
    [Fact]
    public async Task EveryRunOfAProcessPutsTheSameKeyObject()
    {
        using var rig = new Rig(11, Rig.RandomBytes(11, 3 * Chunk));
        await rig.BackupAsync();
        rig.Disk.Write(Chunk, Rig.RandomBytes(12, 1000));
        var second = await rig.BackupAsync();
        Assert.Equal((2, 1), (rig.Store.KeysPut, rig.Store.KeyObjects));
        await rig.RequireRestorableAsync(second.PointId);
    }

    /// <summary>As later on: a controller that is away when a run begins is waited for, and an answer that was lost is asked for again.</summary>
    [Fact]
    public async Task AControllerThatIsAwayWhileARunSettlesAndBeginsIsWaitedFor()
    {
        using var rig = new Rig(12, Rig.RandomBytes(12, 3 * Chunk));
        await rig.BackupAsync();
        rig.Disk.Write(Chunk, Rig.RandomBytes(13, 1000));
        rig.Store.Faults.FailCalls(3);
        rig.Store.Faults.OnBegun = () =>
        {
            rig.Store.Faults.OnBegun = null;
            throw FakeFaults.Unavailable();
        };
        var next = await rig.BackupAsync();
        Assert.All(next.Disks, disk => Assert.True(disk.ChangedOnly));
        Assert.Equal((2, 0), (rig.Store.SessionsBegun, rig.Store.SessionsOpen));
        Assert.Equal(4, rig.Progress.TakeLog().Count(line => line.StartsWith("The controller is away and is waited for", StringComparison.Ordinal)));
        await rig.RequireRestorableAsync(next.PointId);
    }

    [Fact]
    public async Task ARunningStateThatThePlatformDoesNotHaveFailsTheRun()
    {
        using var rig = new Rig(14, Rig.RandomBytes(14, Chunk));
        var fault = await Assert.ThrowsAsync<FaultException>(() => rig.BackupAsync(new BackupOptions { State = StateCapture.Live }));
        Assert.Contains("no running state to capture", fault.Message, StringComparison.Ordinal);
        Assert.Equal(Hypervisors.StateCapture.Live, rig.Hypervisor.LastRequest!.WithState);
        Assert.Equal(["abandon"], rig.Hypervisor.Ends);
        Assert.Equal(0, rig.Store.SessionsOpen);
    }

    [Fact]
    public async Task FullReadWithABaseSharesNodesAndSendsNothing()
    {
        using var rig = new Rig(1, Rig.RandomBytes(1, 40 * Chunk));
        await rig.BackupAsync();
        var (chunks, nodes) = (rig.Store.DataRecords.Count, rig.Store.NodeRecords.Count);
        var again = await rig.BackupAsync(new BackupOptions { Full = true });
        Assert.Equal((chunks, nodes), (rig.Store.DataRecords.Count, rig.Store.NodeRecords.Count));
        Assert.Equal((40UL * Chunk, 0UL), (again.BytesRead, again.BytesSent));
        Assert.Equal(rig.Store.Points[0].Head.Streams[0].Root, rig.Store.Points[1].Head.Streams[0].Root);
    }

    [Fact]
    public async Task EqualChunksTravelOnceAndZerosNever()
    {
        var content = new byte[30 * Chunk];
        var one = Rig.RandomBytes(7, Chunk);
        for (var i = 0; i < 30; i += 2)
        {
            one.CopyTo(content, i * Chunk);
        }
        content[5 * Chunk] = 1;
        using var rig = new Rig(2, content, [.. content]);
        var result = await rig.BackupAsync();
        Assert.Equal(2, rig.Store.DataRecords.Count);
        await rig.RequireRestorableAsync(result.PointId);
    }

    [Fact]
    public async Task ChunksTheStoreHasAreNotSent()
    {
        using var rig = new Rig(3, Rig.RandomBytes(3, 9 * Chunk));
        await rig.BackupAsync();
        await rig.Bases.SaveAsync(rig.Hypervisor.Machine, [], TestContext.Current.CancellationToken);
        rig.Disk.Tracking.Clear();
        var second = await rig.BackupAsync();
        Assert.Equal(9, rig.Store.DataRecords.Count);
        await rig.RequireRestorableAsync(second.PointId);
    }

    [Fact]
    public async Task ExcludedDisksAreLeftOut()
    {
        using var rig = new Rig(4, Rig.RandomBytes(4, Chunk), Rig.RandomBytes(5, Chunk), []);
        var options = new BackupOptions();
        options.ExcludedDisks.Add("disk1");
        var result = await rig.BackupAsync(options);
        Assert.Equal(["disk0", "disk2", "disk1"], result.Disks.Select(disk => disk.Name));
        Assert.Equal([false, false, true], result.Disks.Select(disk => disk.Skipped));
        Assert.Equal(2, rig.Store.Points[0].Head.Streams.Count);
        await rig.RequireRestorableAsync(result.PointId);
    }

    [Fact]
    public async Task TheAgentsLimitHoldsForAllItsBackupsTogether()
    {
        const int Bytes = 2 << 20;
        using var first = new Rig(21, Rig.RandomBytes(21, Bytes));
        using var second = new Rig(22, Rig.RandomBytes(22, Bytes));
        var tools = first.Context.Tools;
        var limited = new CaptureTools(tools.Time, tools.Entropy, tools.Workers, 1 << 20);
        first.Share(limited);
        second.Share(limited);
        var start = tools.Time.GetTimestamp();
        await Task.WhenAll(first.BackupAsync(), second.BackupAsync());
        // 4 MiB at 1 MiB/s; a quarter of a second may come at once, and nothing waits behind the last chunk.
        Assert.InRange(tools.Time.GetElapsedTime(start).TotalSeconds, 3.4, double.MaxValue);
    }

    [Fact]
    public async Task AFailedReadLeavesNothing()
    {
        using var rig = new Rig(5, Rig.RandomBytes(5, 20 * Chunk));
        rig.Hypervisor.OnRead = offset => offset == 11 * Chunk ? throw new FaultException(FaultReason.SnapshotLost, "The view broke.") : Task.CompletedTask;
        var fault = await Assert.ThrowsAsync<FaultException>(() => rig.BackupAsync());
        Assert.Equal(FaultReason.SnapshotLost, fault.Reason);
        RequireNothing(rig);
    }

    [Fact]
    public async Task CancellingLeavesNothing()
    {
        using var rig = new Rig(6, Rig.RandomBytes(6, 20 * Chunk));
        using var cancel = new CancellationTokenSource();
        rig.Hypervisor.OnRead = offset => offset == 7 * Chunk ? cancel.CancelAsync() : Task.CompletedTask;
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => rig.BackupAsync(cancellationToken: cancel.Token));
        RequireNothing(rig);
    }

    [Theory]
    [InlineData(1, 0)]
    [InlineData(2, 0)]
    [InlineData(1, 5)]
    public async Task ALostCommitAnswerIsAskedFor(int lost, int unavailableAfter)
    {
        using var rig = new Rig(7, Rig.RandomBytes(7, 3 * Chunk));
        rig.Store.Faults.CommitAnswersLost = lost;
        rig.Store.Faults.OnCommit = () => rig.Store.Faults.FailCalls(unavailableAfter);
        var result = await rig.BackupAsync();
        Assert.Single(rig.Store.Points);
        Assert.Equal(["commit"], rig.Hypervisor.Ends);
        rig.Store.Faults.FailCalls(0);
        await rig.RequireRestorableAsync(result.PointId);
    }

    [Fact]
    public async Task AnUnknownOutcomeKeepsBothTrackingsAndTheNextRunSettlesIt()
    {
        using var rig = new Rig(8, Rig.RandomBytes(8, 5 * Chunk));
        await rig.BackupAsync();
        rig.Disk.Write(10, [1, 2, 3]);
        rig.Store.Faults.CommitAnswersLost = 1;
        rig.Store.Faults.OnCommit = () => rig.Store.Faults.FailCalls(int.MaxValue);
        var fault = await Assert.ThrowsAsync<FaultException>(() => rig.BackupAsync());
        Assert.Equal(FaultReason.Unavailable, fault.Reason);
        Assert.Equal(["commit", "detach"], rig.Hypervisor.Ends);
        Assert.Equal(2, rig.Disk.Tracking.Count);
        rig.Store.Faults.OnCommit = null;
        rig.Store.Faults.FailCalls(0);
        rig.Disk.Write(3 * Chunk, [9]);
        var next = await rig.BackupAsync();
        Assert.Equal(3, rig.Store.Points.Count);
        Assert.Equal((ulong)Chunk, next.BytesRead);
        await rig.RequireRestorableAsync(next.PointId);
    }

    /// <summary>The agent was ended while it waited for the commit's answer; the controller gives it the job again.</summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task AnotherAttemptFindsThePointCommitted(bool isLate)
    {
        using var rig = new Rig(8, Rig.RandomBytes(8, 5 * Chunk));
        var job = rig.NewJob();
        rig.Store.Faults.CommitAnswersLost = 1;
        rig.Store.Faults.OnCommit = () => rig.Store.Faults.FailCalls(int.MaxValue);
        await Assert.ThrowsAsync<FaultException>(() => rig.BackupAsync(job));
        rig.Store.Faults.OnCommit = null;
        rig.Store.Faults.FailCalls(0);
        rig.Store.Faults.IsUnaware = isLate;
        job.Attempt++;
        var result = await rig.BackupAsync(job);
        Assert.Equal(job.Backup.PointId, result.PointId);
        Assert.Equal((1, 0UL), (rig.Store.Points.Count, result.BytesRead));
        Assert.Equal(["detach"], rig.Hypervisor.Ends);
        rig.Store.Faults.IsUnaware = false;
        rig.Disk.Write(3 * Chunk, [9]);
        var next = await rig.BackupAsync();
        Assert.Equal(isLate ? 5UL * Chunk : Chunk, next.BytesRead);
        await rig.RequireRestorableAsync(next.PointId);
    }

    [Fact]
    public async Task ACancelAfterTheCommitDoesNotUndoTheOutcome()
    {
        using var rig = new Rig(9, Rig.RandomBytes(9, 3 * Chunk));
        using var cancel = new CancellationTokenSource();
        rig.Bases.OnSave = _ =>
        {
            if (rig.Store.Points.Count > 0)
            {
                cancel.Cancel();
            }
        };
        await rig.BackupAsync(cancellationToken: cancel.Token);
        Assert.True(cancel.IsCancellationRequested);
        Assert.Equal(["commit"], rig.Hypervisor.Ends);
        Assert.Equal(0, rig.Store.Abandoned);
    }

    [Fact]
    public async Task AMachineThatCannotBeTidiedUpKeepsItsTracking()
    {
        using var rig = new Rig(10, Rig.RandomBytes(10, 3 * Chunk));
        rig.Hypervisor.CommitFailure = new FaultException(FaultReason.HypervisorUnavailable, "The monitor went away.");
        await rig.BackupAsync();
        Assert.Equal(["detach"], rig.Hypervisor.Ends);
        rig.Hypervisor.CommitFailure = null;
        var next = await rig.BackupAsync();
        Assert.True(next.Disks[0].ChangedOnly);
        await rig.RequireRestorableAsync(next.PointId);
    }

    [Fact]
    public async Task ARefusedCommitAbandons()
    {
        using var rig = new Rig(11, Rig.RandomBytes(11, 3 * Chunk));
        rig.Store.Faults.OnCommit = () => throw new FaultException(FaultReason.Incomplete, "A chunk is missing.");
        await Assert.ThrowsAsync<FaultException>(() => rig.BackupAsync());
        RequireNothing(rig);
    }

    private static void RequireNothing(Rig rig)
    {
        Assert.Empty(rig.Store.Points);
        Assert.Equal(0, rig.Store.SessionsOpen);
        Assert.Equal(1, rig.Store.Abandoned);
        Assert.Equal(["abandon"], rig.Hypervisor.Ends);
        Assert.Empty(rig.Disk.Tracking);
    }

    private static byte[] Sparse(int seed, int length)
    {
        var bytes = Rig.RandomBytes(seed, length);
        var random = new Random(seed);
        for (var i = 0; i < length; i += Chunk)
        {
            if (random.Next(3) == 0)
            {
                bytes.AsSpan(i, Math.Min(Chunk, length - i)).Clear();
            }
        }
        return bytes;
    }
}
