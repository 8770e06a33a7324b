using VirtBackup.Catalog;
using VirtBackup.Core;
using VirtBackup.Protocol.Agent.V1;
using VirtBackup.Protocol.Common.V1;

namespace VirtBackup.Controller.Tests.Fixtures;

/// <summary>What a host has of the machine.</summary>
internal enum Copy
{
    None,
    Stopped,
    Running,
    Retired,
}

/// <summary>What goes wrong with a job.</summary>
internal enum Mishap
{
    None,
    /// <summary>It fails, and nothing was done.</summary>
    Fails,
    /// <summary>It was done, and is reported as failed.</summary>
    FailsBehind,
    /// <summary>The agent dies before it does anything.</summary>
    DiesBefore,
    /// <summary>It was done, and the agent dies before it reports.</summary>
    DiesBehind,
    /// <summary>It was done, and the agent dies before anybody hears that it began.</summary>
    DiesUnheard,
}

/// <summary>Agents on hosts that obey like real ones, over one machine that must never run twice. Mishaps happen by a script.</summary>
internal sealed class FakeHosts(World world)
{
    private readonly Lock _gate = new();
    private readonly Dictionary<string, Copy> _copies = [];
    private readonly List<string> _done = [];
    private bool _stoppedRunning;

    /// <summary>Asked once for each attempt of a job: agent, task.</summary>
    public Func<string, Job.TaskOneofCase, Mishap> Script { get; set; } = static (_, _) => Mishap.None;

    /// <summary>Called before a job is done.</summary>
    public Action<string, Job.TaskOneofCase>? Before { get; set; }

    /// <summary>Read by the backups to come; the last one for all behind.</summary>
    public Queue<long> BackupBytes { get; } = new([100L << 20, 1000]);

    public string? Violation { get; private set; }

    public IReadOnlyList<string> Done
    {
        get
        {
            lock (_gate) return [.. _done];
        }
    }

    public Copy this[string agent]
    {
        get
        {
            lock (_gate) return _copies.GetValueOrDefault(agent);
        }
        set
        {
            lock (_gate) _copies[agent] = value;
        }
    }

    /// <returns>False: the agent has died.</returns>
    public async Task<bool> HandleAsync(TestAgent agent, Job job)
    {
        Before?.Invoke(agent.Name, job.TaskCase);
        var mishap = Script(agent.Name, job.TaskCase);
        if (mishap == Mishap.DiesUnheard)
        {
            lock (_gate) _ = Do(agent.Name, job);
            return false;
        }
        await agent.ReportAsync(job.JobId, job.Attempt, JobState.Running);
        if (mishap == Mishap.DiesBefore) return false;
        if (mishap == Mishap.Fails)
        {
            await ReportAsync(agent, job, JobState.Failed, static report => report.FailureMessage = "A mishap.");
            return true;
        }
        string? refusal;
        lock (_gate)
        {
            refusal = Do(agent.Name, job);
            _done.Add($"{agent.Name}:{job.TaskCase}");
        }
        var committed = job.TaskCase == Job.TaskOneofCase.Backup && refusal is null ? await CommitAsync(agent, job) : 0;
        if (mishap == Mishap.DiesBehind) return false;
        if (refusal is not null || mishap == Mishap.FailsBehind)
        {
            await ReportAsync(agent, job, JobState.Failed, report => report.FailureMessage = refusal ?? "A mishap behind.");
            return true;
        }
        await ReportAsync(agent, job, JobState.Succeeded, report => Answer(report, job, committed));
        return true;
    }

    private string? Do(string agent, Job job)
    {
        var copy = _copies.GetValueOrDefault(agent);
        switch (job.TaskCase)
        {
            case Job.TaskOneofCase.Restore when job.Restore.Options.Adopt:
                if (copy != Copy.None) return "It is here already.";
                _copies[agent] = Copy.Stopped;
                return null;
            case Job.TaskOneofCase.Restore:
                return copy == Copy.Stopped ? null : $"It cannot be written to: {copy}.";
            case Job.TaskOneofCase.Backup:
                return copy is Copy.Running or Copy.Stopped ? null : $"It cannot be read: {copy}.";
            case Job.TaskOneofCase.StopMachine:
                _stoppedRunning = copy == Copy.Running;
                if (copy == Copy.Running) _copies[agent] = Copy.Stopped;
                return null;
            case Job.TaskOneofCase.StartMachine:
                if (copy is Copy.Retired or Copy.None) return $"It cannot be started: {copy}.";
                if (_copies.Any(other => other.Key != agent && other.Value == Copy.Running)) Violation = $"It runs twice, since it was started on {agent}.";
                if (_copies.Any(other => other.Key != agent && other.Value == Copy.Stopped) && agent == "target") Violation = "It was started on the target while the source could be started.";
                _copies[agent] = Copy.Running;
                return null;
            case Job.TaskOneofCase.RetireMachine when job.RetireMachine.Undo:
                if (copy == Copy.Retired) _copies[agent] = Copy.Stopped;
                return null;
            case Job.TaskOneofCase.RetireMachine:
                if (copy == Copy.Running) return "It runs.";
                _copies[agent] = job.RetireMachine.Delete ? Copy.None : Copy.Retired;
                return null;
            default:
                return null;
        }
    }

    /// <returns>How much it read.</returns>
    private async Task<long> CommitAsync(TestAgent agent, Job job)
    {
        long bytes;
        lock (_gate) bytes = BackupBytes.Count > 1 ? BackupBytes.Dequeue() : BackupBytes.Peek();
        await world.Role.Catalog.Points.SaveAsync(
            new PointRow
            {
                PointId = Id16.Parse(job.Backup.PointId), VmId = Id16.Parse(job.Backup.VmId), VmName = agent.VmName, Agent = agent.Name, CreatedMs = world.Time.GetUtcNow().ToUnixTimeMilliseconds(),
                Sequence = 1, ReadBytes = bytes, LogicalBytes = 100 << 20,
            },
            CancellationToken.None);
        return bytes;
    }

    private void Answer(JobReport report, Job job, long committed)
    {
        switch (job.TaskCase)
        {
            case Job.TaskOneofCase.Backup:
                report.Backup = new BackupResult { PointId = job.Backup.PointId, BytesRead = (ulong)committed };
                break;
            case Job.TaskOneofCase.Restore:
                report.Restore = new RestoreResult { BytesWritten = 100, ElapsedSeconds = 1 };
                break;
            case Job.TaskOneofCase.CheckRestore:
                report.CheckRestore = new CheckRestoreResult();
                break;
            case Job.TaskOneofCase.StopMachine:
                report.StopMachine = new StopMachineResult { Graceful = true, WasRunning = _stoppedRunning };
                break;
            case Job.TaskOneofCase.StartMachine:
                report.StartMachine = new StartMachineResult();
                break;
            default:
                report.RetireMachine = new RetireMachineResult { Retired = true };
                break;
        }
    }

    private static async Task ReportAsync(TestAgent agent, Job job, JobState state, Action<JobReport> more)
    {
        try
        {
            await agent.ReportAsync(job.JobId, job.Attempt, state, more);
        }
        catch (FaultException fenced) when (fenced.Reason == FaultReason.Fenced)
        {
            // The controller has given the job up.
        }
    }
}

/// <summary>An agent's process: connected, doing what it is assigned, coming back when it has died or the controller has.</summary>
internal sealed class FakeAgent : IAsyncDisposable
{
    private static readonly TimeSpan Pause = TimeSpan.FromMilliseconds(5);
    private readonly TestAgent _agent;
    private readonly FakeHosts _hosts;
    private readonly bool _hasMachine;
    private readonly CancellationTokenSource _ending = new();
    private readonly Task _running;

    public FakeAgent(TestAgent agent, FakeHosts hosts, bool hasMachine)
    {
        (_agent, _hosts, _hasMachine) = (agent, hosts, hasMachine);
        _running = RunAsync();
    }

    /// <summary>While set, it is not there.</summary>
    public volatile bool Away;

    /// <summary>It is connected, or about to be.</summary>
    public volatile bool IsServing;

    public async ValueTask DisposeAsync()
    {
        await _ending.CancelAsync();
        await _running.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        _ending.Dispose();
    }

    private async Task RunAsync()
    {
        await Task.Yield();
        while (!_ending.IsCancellationRequested)
        {
            if (!Away)
            {
                IsServing = true;
                try
                {
                    await ServeAsync();
                }
                catch (Exception broken) when (broken is FaultException or OperationCanceledException or ObjectDisposedException or Xunit.Sdk.XunitException or System.Threading.Channels.ChannelClosedException)
                {
                    // It comes back.
                }
                IsServing = false;
            }
            await Task.Delay(Pause, CancellationToken.None);
        }
    }

    private async Task ServeAsync()
    {
        await using var control = await ControlStream.OpenAsync(_agent, Id16.Create(SystemEntropy.Instance), new AgentCapabilities { MachineControl = true, RestoreOptions = 100, BackupOptions = 100 });
        var inventory = _agent.NewInventory();
        if (!_hasMachine) inventory.VirtualMachines.Clear();
        else inventory.VirtualMachines[0].Running = _hosts[_agent.Name] == Copy.Running;
        await control.SendAsync(new ConnectRequest { Inventory = inventory });
        var handled = new HashSet<(string, ulong)>();
        var receiving = control.ReceiveAsync();
        while (!_ending.IsCancellationRequested && !Away)
        {
            if (await Task.WhenAny(receiving, Task.Delay(Pause, CancellationToken.None)) != receiving)
            {
                await control.SendAsync(new ConnectRequest { Heartbeat = new Heartbeat() });
                continue;
            }
            var message = await receiving;
            receiving = control.ReceiveAsync();
            foreach (var job in message.Assignments?.Jobs ?? [])
            {
                if (handled.Add((job.JobId, job.Attempt)))
                {
                    if (!await _hosts.HandleAsync(_agent, job)) return;
                }
            }
        }
    }
}
