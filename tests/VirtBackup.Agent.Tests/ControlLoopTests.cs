using System.Runtime.CompilerServices;
using System.Threading.Channels;
using Google.Protobuf;
using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Extensions.Time.Testing;
using VirtBackup.Agent.Control;
using VirtBackup.Agent.Flow;
using VirtBackup.Agent.Tests.Fakes;
using VirtBackup.Core;
using VirtBackup.Protocol.Agent.V1;
using VirtBackup.Protocol.Common.V1;
using VirtBackup.Protocol.Tests;
using VirtBackup.Protocol.Transport;

namespace VirtBackup.Agent.Tests;

public sealed class ControlLoopTests
{
    private const int Chunk = 256 << 10;
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(20);

    [Fact]
    public async Task AJobRunsItsReportIsRepeatedUntilUnlistedAndTheAgentLivesOn()
    {
        using var rig = new Rig(1, Rig.RandomBytes(1, 3 * Chunk));
        await using var agent = new RunningAgent(rig);
        var first = await agent.NextAsync();
        await first.GreetAsync();
        var job = rig.NewJob();
        first.Assign(1, job);
        await first.WaitForAsync(message => message.JobReport is { State: JobState.Succeeded } report && report.JobId == job.JobId);
        first.Break();

        var second = await agent.NextAsync();
        var hello = await second.GreetAsync();
        Assert.Equal(job.JobId, Assert.Single(hello.RunningJobs).JobId);
        second.Assign(2, job);
        var repeated = await second.WaitForAsync(message => message.JobReport is { State: JobState.Succeeded });
        Assert.Equal(job.Backup.PointId, repeated.JobReport.Backup.PointId);

        second.Assign(3);
        var another = rig.NewJob();
        second.Assign(4, another);
        await second.WaitForAsync(message => message.JobReport is { State: JobState.Succeeded } report && report.JobId == another.JobId);
        second.Break();
        var third = await agent.NextAsync();
        hello = await third.GreetAsync();
        Assert.Equal(another.JobId, Assert.Single(hello.RunningJobs).JobId);
        Assert.Equal(2, rig.Store.Points.Count);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task CancelAndWithdrawalEndTheWorkAndLeaveNothing(bool cancel)
    {
        using var rig = new Rig(2, Rig.RandomBytes(2, 40 * Chunk));
        var reading = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        var release = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        rig.Hypervisor.OnRead = _ =>
        {
            reading.TrySetResult();
            return release.Task;
        };
        await using var agent = new RunningAgent(rig);
        var link = await agent.NextAsync();
        await link.GreetAsync();
        var job = rig.NewJob();
        link.Assign(1, job);
        await reading.Task.WaitAsync(Patience, TestContext.Current.CancellationToken);
        var next = job.Clone();
        if (cancel)
        {
            next.Cancel = true;
        }
        else
        {
            next.Attempt = 2;
            rig.Hypervisor.OnRead = _ => Task.CompletedTask;
        }
        link.Assign(2, next);
        release.SetResult();
        var report = await link.WaitForAsync(message => message.JobReport is { State: not JobState.Running } final && final.Attempt == next.Attempt);
        Assert.Equal(cancel ? JobState.Cancelled : JobState.Succeeded, report.JobReport.State);
        Assert.Equal(cancel ? ["abandon"] : ["abandon", "commit"], rig.Hypervisor.Ends);
        Assert.Equal(1, rig.Hypervisor.CapturesMax);
    }

    [Fact]
    public async Task StoppingTheAgentWaitsForWithdrawnWork()
    {
        using var rig = new Rig(3, Rig.RandomBytes(3, 40 * Chunk));
        var reading = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        var release = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        rig.Hypervisor.OnRead = _ =>
        {
            reading.TrySetResult();
            return release.Task;
        };
        await using var agent = new RunningAgent(rig);
        var link = await agent.NextAsync();
        await link.GreetAsync();
        link.Assign(1, rig.NewJob());
        await reading.Task.WaitAsync(Patience, TestContext.Current.CancellationToken);
        link.Assign(2);
        link.Assign(3, new Job { JobId = "marker", Attempt = 1 });
        await link.WaitForAsync(message => message.JobReport?.JobId == "marker");
        var stopping = agent.StopAsync();
        Assert.False(stopping.IsCompleted);
        release.SetResult();
        await stopping.WaitAsync(Patience, TestContext.Current.CancellationToken);
        Assert.Equal(["abandon"], rig.Hypervisor.Ends);
    }

    [Fact]
    public async Task DeniedEndsTheLoop()
    {
        using var rig = new Rig(4, new byte[1]);
        await using var agent = new RunningAgent(rig);
        var link = await agent.NextAsync();
        link.Break(new FaultException(FaultReason.Denied, "This agent is not known."));
        var fault = await Assert.ThrowsAsync<FaultException>(() => agent.Running.WaitAsync(Patience, TestContext.Current.CancellationToken));
        Assert.Equal(FaultReason.Denied, fault.Reason);
    }

    [Fact]
    public async Task AnAnswerOutOfPlaceBreaksTheLinkOnly()
    {
        using var rig = new Rig(5, new byte[1]);
        await using var agent = new RunningAgent(rig);
        var link = await agent.NextAsync();
        link.Assign(1);
        link = await agent.NextAsync();
        await link.GreetAsync();
        var job = rig.NewJob();
        link.Assign(1, job, job);
        link = await agent.NextAsync();
        Assert.Empty((await link.GreetAsync()).RunningJobs);
    }

    [Fact]
    public async Task WhateverTheControllerSendsTheAgentLivesOn()
    {
        using var rig = new Rig(6, Rig.RandomBytes(6, 2 * Chunk));
        await using var agent = new RunningAgent(rig);
        for (var seed = 0; seed < 150; seed++)
        {
            var link = await agent.NextAsync();
            var messages = new WireMessages(seed, [rig.Hypervisor.Machine.ToString(), rig.NewId().ToString()]);
            await link.GreetAsync(seed % 3 == 0 ? messages.Next<ControllerHello>() : null);
            for (var i = 0; i < 4; i++)
            {
                link.Send(messages.Next<ConnectResponse>());
            }
            link.Break();
        }
        var last = await agent.NextAsync();
        await last.GreetAsync();
        var job = rig.NewJob();
        last.Assign(1, job);
        await last.WaitForAsync(message => message.JobReport is { State: JobState.Succeeded } report && report.JobId == job.JobId);
        await rig.RequireRestorableAsync(job.Backup.PointId);
    }

    [Fact]
    public async Task OptionsThatTheListHasNoRoomForAreAskedFor()
    {
        using var rig = new Rig(7, Rig.RandomBytes(7, 2 * Chunk));
        var options = new BackupOptions { ExcludedDisks = { Enumerable.Range(0, 9000).Select(i => $"disk-{i}") } };
        await using var agent = new RunningAgent(rig) { TaskOptions = options };
        var job = rig.NewJob();
        job.Backup.OptionsApart = true;
        var link = await agent.NextAsync();
        await link.GreetAsync();
        link.Assign(1, job);
        await link.WaitForAsync(message => message.JobReport is { State: JobState.Succeeded });
        Assert.Equal(9000, rig.Hypervisor.LastRequest!.ExcludedDisks.Count);
        Assert.Equal(3, agent.OptionsAsked);
    }

    [Fact]
    public async Task AMachineOfAGroupGoesOnWhenAllHaveComeAndItIsReadyAcrossLinks()
    {
        using var rig = new Rig(8, Rig.RandomBytes(8, 2 * Chunk));
        rig.Hypervisor.HoldsAtGate = true;
        await using var agent = new RunningAgent(rig);
        var job = rig.NewJob(new BackupOptions { GroupRunId = rig.NewId().ToString() });
        var link = await agent.NextAsync();
        await link.GreetAsync();
        link.Assign(1, job);
        for (var step = CutStep.Ready; step <= CutStep.Cut; step++)
        {
            await link.WaitForAsync(message => message.JobReport is { State: JobState.Running } report && report.CutStep == step);
            if (step == CutStep.Ready)
            {
                // Its guest has not been touched: the next list holds the answer.
                link.Break();
                link = await agent.NextAsync();
                await link.GreetAsync();
                link.Assign(1, job);
                await link.WaitForAsync(message => message.JobReport is { CutStep: CutStep.Ready });
            }
            link.Assign((ulong)step + 1, new Job(job) { CutStepPassed = step });
        }
        var done = await link.WaitForAsync(message => message.JobReport is { State: JobState.Succeeded });
        Assert.Equal((CutStep.Released, true, false), (done.JobReport.CutStep, done.JobReport.CutHeld, done.JobReport.Backup.CutAnew));
    }

    [Fact]
    public async Task AMachineThatIsTakenBackDuringTheCutOfItsGroupHasNotBeenCut()
    {
        using var rig = new Rig(9, Rig.RandomBytes(9, 2 * Chunk));
        rig.Hypervisor.HoldsAtGate = true;
        await using var agent = new RunningAgent(rig);
        var link = await agent.NextAsync();
        await link.GreetAsync();
        var job = rig.NewJob(new BackupOptions { GroupRunId = rig.NewId().ToString() });
        link.Assign(1, new Job(job) { CutStepPassed = CutStep.Prepared });
        await link.WaitForAsync(message => message.JobReport is { } report && report.CutStep == CutStep.Frozen);
        link.Assign(2);
        // Its machine is free for the next one, which belongs to no group and waits for nobody.
        var next = rig.NewJob();
        link.Assign(3, next);
        var done = await link.WaitForAsync(message => message.JobReport is { State: JobState.Succeeded } report && report.JobId == next.JobId);
        Assert.Equal(CutStep.Unspecified, done.JobReport.CutStep);
        Assert.Equal([true, false], rig.Hypervisor.Gates.Select(gate => gate is not null));
        Assert.Equal(["commit"], rig.Hypervisor.Ends);
    }

    [Fact]
    public async Task AGuestThatStandsStillForItsGroupGoesOnWhenTheLinkBreaks()
    {
        using var rig = new Rig(11, Rig.RandomBytes(11, Chunk));
        rig.Hypervisor.HoldsAtGate = true;
        await using var agent = new RunningAgent(rig);
        var job = rig.NewJob(new BackupOptions { GroupRunId = rig.NewId().ToString() });
        var link = await agent.NextAsync();
        await link.GreetAsync();
        link.Assign(1, new Job(job) { CutStepPassed = CutStep.Prepared });
        await link.WaitForAsync(message => message.JobReport is { CutStep: CutStep.Frozen });
        link.Break();
        link = await agent.NextAsync();
        await link.GreetAsync();
        link.Assign(2, job);
        var failed = await link.WaitForAsync(message => message.JobReport is { State: JobState.Failed });
        Assert.Contains("The link to the controller broke during the cut", failed.JobReport.FailureMessage, StringComparison.Ordinal);
        Assert.Empty(rig.Hypervisor.Ends);
    }

    [Fact]
    public async Task APlatformThatCannotWaitIsNotCutWithOthers()
    {
        using var rig = new Rig(10, Rig.RandomBytes(10, Chunk));
        await using var agent = new RunningAgent(rig);
        var link = await agent.NextAsync();
        await link.GreetAsync();
        link.Assign(1, rig.NewJob(new BackupOptions { GroupRunId = rig.NewId().ToString() }));
        var failed = await link.WaitForAsync(message => message.JobReport is { State: JobState.Failed });
        Assert.Contains("cannot be cut together with others", failed.JobReport.FailureMessage, StringComparison.Ordinal);
        Assert.Empty(rig.Hypervisor.Gates);
    }

    [Fact]
    public async Task BackoffStaysInsideItsWindow()
    {
        for (var seed = 0; seed < 20; seed++)
        {
            var time = new FakeTimeProvider();
            var backoff = new Backoff(time, new SeededEntropy(seed));
            for (var failure = 0; failure < 10; failure++)
            {
                var wait = backoff.WaitAsync(CancellationToken.None);
                time.Advance(TimeSpan.FromSeconds(1 << Math.Min(failure, 6)));
                await wait.WaitAsync(Patience, TestContext.Current.CancellationToken);
            }
            backoff.Reset();
            var first = backoff.WaitAsync(CancellationToken.None);
            time.Advance(TimeSpan.FromSeconds(1));
            await first.WaitAsync(Patience, TestContext.Current.CancellationToken);
        }
    }

    private sealed class RunningAgent : IControlTransport, IAsyncDisposable
    {
        private readonly Channel<FakeLink> _links = Channel.CreateUnbounded<FakeLink>();
        private readonly CancellationTokenSource _stop = new();
        private readonly ControlLoop _loop;

        public RunningAgent(Rig rig)
        {
            _loop = new ControlLoop(this, rig.Context, [rig.Hypervisor], "1.0", "host1", NullLogger<ControlLoop>.Instance);
            Running = _loop.RunAsync(_stop.Token);
        }

        public Task Running { get; }

        public Task<FakeLink> NextAsync() => _links.Reader.ReadAsync().AsTask().WaitAsync(Patience);

        public IDuplex<ConnectRequest, ConnectResponse> Connect(CancellationToken cancellationToken)
        {
            var link = new FakeLink();
            _links.Writer.TryWrite(link);
            return link;
        }

        public BackupOptions TaskOptions { get; init; } = new();

        public int OptionsAsked { get; private set; }

        public async IAsyncEnumerable<ReadTaskOptionsResponse> ReadTaskOptionsAsync(ReadTaskOptionsRequest request, [EnumeratorCancellation] CancellationToken cancellationToken)
        {
            await Task.Yield();
            var asked = ++OptionsAsked;
            foreach (var slice in TaskOptions.ToByteArray().Chunk(32 << 10))
            {
                yield return new ReadTaskOptionsResponse { Data = ByteString.CopyFrom(slice) };
                if (asked < 3)
                {
                    throw FakeFaults.Unavailable();
                }
            }
        }

        public ValueTask<RenewCertificateResponse> RenewCertificateAsync(RenewCertificateRequest request, CancellationToken cancellationToken) => throw new NotSupportedException();

        public async Task StopAsync()
        {
            await _stop.CancelAsync();
            try
            {
                await Running;
            }
            catch (Exception exception) when (exception is OperationCanceledException or FaultException)
            {
                // It ends by being stopped, or has ended by itself.
            }
        }

        public async ValueTask DisposeAsync()
        {
            await StopAsync().WaitAsync(Patience);
            _loop.Dispose();
            _stop.Dispose();
        }
    }

    private sealed class FakeLink : IDuplex<ConnectRequest, ConnectResponse>
    {
        private readonly Channel<ConnectRequest> _sent = Channel.CreateUnbounded<ConnectRequest>();
        private readonly Channel<ConnectResponse> _answers = Channel.CreateUnbounded<ConnectResponse>();

        public async Task<AgentHello> GreetAsync(ControllerHello? hello = null)
        {
            var first = await _sent.Reader.ReadAsync().AsTask().WaitAsync(Patience);
            Assert.NotNull(first.Hello);
            _answers.Writer.TryWrite(new ConnectResponse { Hello = hello ?? new ControllerHello { Version = "1.0" } });
            return first.Hello;
        }

        public void Assign(ulong revision, params Job[] jobs)
        {
            var assignments = new Assignments { Revision = revision };
            assignments.Jobs.AddRange(jobs);
            _answers.Writer.TryWrite(new ConnectResponse { Assignments = assignments });
        }

        public void Send(ConnectResponse message) => _answers.Writer.TryWrite(message);

        public async Task<ConnectRequest> WaitForAsync(Func<ConnectRequest, bool> wanted)
        {
            using var limit = new CancellationTokenSource(Patience);
            while (true)
            {
                var message = await _sent.Reader.ReadAsync(limit.Token);
                if (wanted(message))
                {
                    return message;
                }
            }
        }

        public void Break(FaultException? fault = null) => _answers.Writer.TryComplete(fault ?? FakeFaults.Unavailable());

        public async ValueTask SendAsync(ConnectRequest message, CancellationToken cancellationToken) => await _sent.Writer.WriteAsync(message, cancellationToken);

        public ValueTask CompleteAsync() => ValueTask.CompletedTask;

        public async IAsyncEnumerable<ConnectResponse> ReceiveAsync([EnumeratorCancellation] CancellationToken cancellationToken)
        {
            await foreach (var answer in _answers.Reader.ReadAllAsync(cancellationToken))
            {
                yield return answer;
            }
        }

        public ValueTask DisposeAsync() => ValueTask.CompletedTask;
    }
}
