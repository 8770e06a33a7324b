using System.Collections.Concurrent;
using Microsoft.Extensions.Logging;
using VirtBackup.Catalog;
using VirtBackup.Controller.Groups;
using VirtBackup.Core;
using VirtBackup.Protocol.Agent.V1;

namespace VirtBackup.Controller.Control;

/// <summary>
/// The life of jobs. A change is durable before anybody hears of it; an agent is told the whole desired state, never a
/// difference; a report or session of an older attempt is refused. Safe for concurrent use.
/// </summary>
public sealed partial class JobService(
    CatalogDatabase catalog, AgentConnections connections, RestoreEstimates estimates, TimeProvider time, ILogger<JobService> logger) : IDisposable
{
    /// <summary>Tries of one job.</summary>
    public const int AttemptsMax = 3;

    /// <summary>Jobs in one list of assignments.</summary>
    public const int AssignedMax = 256;

    private const int LogLinesPerReportMax = 1000;

    /// <summary>Progress alone is written this often: a crash loses a number, not a fact.</summary>
    private static readonly TimeSpan ProgressSaveInterval = TimeSpan.FromSeconds(5);

    // Changes of jobs happen one at a time; reading needs no lock.
    private readonly Gate _changing = new();
    private readonly ConcurrentDictionary<Id16, JobRow> _active = new();
    private readonly ConcurrentDictionary<Id16, long> _savedAt = new();
    private readonly JobFeed _feed = new();
    private long _revision;

    /// <summary>Told when an attempt is over, so that what it holds can be given up. Set once, before the first call.</summary>
    public Func<Id16, ValueTask>? AttemptEnded { get; set; }

    /// <summary>A last line for the log of a job that is over, or null. Set once, before the first call.</summary>
    public Func<Id16, string?>? LastWords { get; set; }

    /// <summary>Recovery points that runs of several machines are going to read. Set once, before the first call.</summary>
    public Func<IEnumerable<Id16>>? PointsOfRuns { get; set; }

    /// <summary>Told when the cancellation of a job that the controller runs itself is asked for. Set once, before the first call.</summary>
    public Action<Id16>? OwnJobCancelled { get; set; }

    /// <summary>Holds the cuts of groups together. Set once, before the first call.</summary>
    internal ICutSteps? Cuts { get; set; }

    public int RunningCount => _active.Count;

    /// <summary>Loads the jobs that are not over. Those that the controller ran itself ended with it, but for migrations and recoveries, which go on.</summary>
    public async ValueTask LoadAsync(CancellationToken cancellationToken)
    {
        foreach (var job in await catalog.Jobs.ListActiveAsync(cancellationToken))
        {
            _active[job.JobId] = job;
            if (job is { Agent.Length: 0, Kind: not (JobKind.Migration or JobKind.Recovery) })
            {
                var next = job.Kind == JobKind.GroupBackup ? "if its machines had been cut, their jobs go on, and the group shows what comes of them." : "start it again.";
                await FinishAsync(job.JobId, JobPhase.Failed, [], $"The controller was restarted while the job ran: {next}", FaultReason.Unavailable, cancellationToken);
            }
        }
    }

    /// <summary>Stores a new job and announces it. The same request id gives the job that it made before.</summary>
    public async ValueTask<JobRow> CreateAsync(JobRow job, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(job);
        using (await _changing.CloseAsync(cancellationToken))
        {
            if (job.Agent.Length > 0 && _active.Values.Count(active => active.Agent == job.Agent) >= AssignedMax)
            {
                throw new FaultException(FaultReason.FailedPrecondition, $"The agent '{job.Agent}' has {AssignedMax} jobs already: wait until some are over.");
            }
            if (connections.FindAbilities(job.Agent)?.Refuse(job) is { } refused)
            {
                throw refused;
            }
            var (stored, isNew) = await catalog.Jobs.AddAsync(job, cancellationToken);
            if (isNew)
            {
                _active[stored.JobId] = stored;
                LogCreated(stored.Kind, stored.JobId, stored.VmName, stored.Agent);
                connections.Nudge(stored.Agent);
            }
            return stored;
        }
    }

    /// <summary>Everything that the agent should be doing now.</summary>
    public Assignments GetAssignments(string agent)
    {
        var assignments = new Assignments { Revision = (ulong)Interlocked.Increment(ref _revision) };
        var bytes = 0;
        foreach (var job in _active.Values.Where(job => job.Agent == agent).OrderBy(static job => job.Number).Take(AssignedMax).Select(JobMessages.ToAssignment))
        {
            job.CutStepPassed = Cuts?.FindPassed(Id16.Parse(job.JobId)) ?? CutStep.Unspecified;
            bytes += JobMessages.AssignedBytes(job);
            if (bytes > Limits.ControlMessageBytesMax)
            {
                // The agent gets it when one before it is over.
                break;
            }
            assignments.Jobs.Add(job);
        }
        return assignments;
    }

    /// <exception cref="FaultException"><see cref="FaultReason.NotFound"/>.</exception>
    public async ValueTask<JobRow> GetAsync(Id16 jobId, CancellationToken cancellationToken) =>
        _active.TryGetValue(jobId, out var job)
            ? job
            : await catalog.Jobs.FindAsync(jobId, cancellationToken) ?? throw new FaultException(FaultReason.NotFound, $"There is no job {jobId}.");

    /// <summary>The newest state of a job that may have been read from the catalog: progress lives here.</summary>
    public JobRow Newest(JobRow stored)
    {
        ArgumentNullException.ThrowIfNull(stored);
        return _active.GetValueOrDefault(stored.JobId, stored);
    }

    /// <summary>The job now and whenever it changes, until it is over.</summary>
    public IAsyncEnumerable<JobRow> WatchAsync(Id16 jobId, CancellationToken cancellationToken) =>
        _feed.WatchAsync(jobId, token => GetAsync(jobId, token), cancellationToken);

    /// <summary>Recovery points that jobs read or make now.</summary>
    public IEnumerable<Id16> PointsInUse => 
        _active.Values.Where(static job => !job.PointId.IsEmpty).Select(static job => job.PointId).Concat(PointsOfRuns?.Invoke() ?? []);

    /// <summary>Whether the agent has a job for this machine that is not over.</summary>
    public bool HasJobFor(string agent, Id16 vmId) => _active.Values.Any(job => job.Agent == agent && job.VmId == vmId);

    /// <summary>The job, if it is the caller's and this is its newest attempt.</summary>
    /// <exception cref="FaultException">
    /// <see cref="FaultReason.Denied"/>: not the caller's; <see cref="FaultReason.Fenced"/>: an older attempt, or over.
    /// </exception>
    public JobRow RequireAttempt(Caller caller, Id16 jobId, ulong attempt)
    {
        ArgumentNullException.ThrowIfNull(caller);
        if (!_active.TryGetValue(jobId, out var job))
        {
            throw new FaultException(FaultReason.Fenced, $"The job {jobId} is over or does not exist.");
        }
        if (job.Agent != caller.Name)
        {
            throw new FaultException(FaultReason.Denied, $"The job {jobId} is not assigned to agent '{caller.Name}'.");
        }
        return (ulong)job.Attempt == attempt
            ? job
            : throw new FaultException(FaultReason.Fenced, $"The job {jobId} is in attempt {job.Attempt}; a call for attempt {attempt} is refused.");
    }

    /// <summary>Takes an agent's report.</summary>
    public async ValueTask ReportAsync(Caller caller, JobReport report, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(caller);
        ArgumentNullException.ThrowIfNull(report);
        var jobId = WireText.ToId(report.JobId, "job id");
        if (report.LogLines.Count > LogLinesPerReportMax)
        {
            throw new FaultException(FaultReason.InvalidArgument, $"A report carries at most {LogLinesPerReportMax} log lines.");
        }
        if (report.CutStep != CutStep.Unspecified)
        {
            // Before anything is stored: guests wait.
            _ = RequireAttempt(caller, jobId, report.Attempt);
            Cuts?.Reach(jobId, report.CutStep, report.CutHeld);
        }
        using (await _changing.CloseAsync(cancellationToken))
        {
            var before = RequireAttempt(caller, jobId, report.Attempt);
            var now = time.NowMs();
            var beside = _active.Values.Count(job => job.Agent == caller.Name && job.Kind is JobKind.Backup or JobKind.Restore);
            await estimates.NoteAsync(before, report, Math.Max(beside, JobMessages.SideBySide(before)), cancellationToken);
            var after = JobMessages.Apply(before, report, now);
            if (after is { State: JobPhase.Succeeded, Kind: JobKind.Backup } && await catalog.Points.FindAsync(after.PointId, cancellationToken) is null)
            {
                after = after with
                {
                    State = JobPhase.Failed,
                    Result = [],
                    FailureMessage = "The agent reported success, but the recovery point was not committed: see the logs of agent and controller.",
                    FailureReason = FaultReason.Incomplete,
                };
            }
            await ChangeAsync(before, after, [.. report.LogLines.Select(line => new JobLogLine(now, line))], cancellationToken);
        }
    }

    /// <summary>Asks for a job's end. One that nobody works on ends at once.</summary>
    public async ValueTask<JobRow> CancelAsync(Id16 jobId, CancellationToken cancellationToken)
    {
        using (await _changing.CloseAsync(cancellationToken))
        {
            var before = await GetAsync(jobId, cancellationToken);
            if (before.IsFinal || before.CancelRequested)
            {
                return before;
            }
            var after = before with { CancelRequested = true };
            if (before.Agent.Length > 0 && (before.State == JobPhase.Queued || !connections.IsConnected(before.Agent)))
            {
                after = after with { State = JobPhase.Cancelled, EndedMs = time.NowMs() };
            }
            after = await ChangeAsync(before, after, [], cancellationToken);
            connections.Nudge(after.Agent);
            if (after.Agent.Length == 0)
            {
                OwnJobCancelled?.Invoke(jobId);
            }
            return after;
        }
    }

    /// <summary>Tells a restore whose machine waits for others what becomes of its start; nothing happens to one that is over.</summary>
    public async ValueTask SetGateAsync(Id16 jobId, StartOrder.Types.Gate gate, CancellationToken cancellationToken)
    {
        using (await _changing.CloseAsync(cancellationToken))
        {
            if (_active.TryGetValue(jobId, out var before) && before.Start.Length > 0)
            {
                var after = await ChangeAsync(before, before with { Start = JobMessages.WithGate(before.Start, gate) }, [], cancellationToken);
                connections.Nudge(after.Agent);
            }
        }
    }

    /// <summary>Progress of a job that the controller runs itself.</summary>
    public async ValueTask ProgressAsync(Id16 jobId, byte[] progress, CancellationToken cancellationToken)
    {
        using (await _changing.CloseAsync(cancellationToken))
        {
            if (_active.TryGetValue(jobId, out var before))
            {
                await ChangeAsync(before, before with { State = JobPhase.Running, StartedMs = before.StartedMs ?? time.NowMs(), Progress = progress }, [], cancellationToken);
            }
        }
    }

    /// <summary>A line in the log of a job that the controller runs itself.</summary>
    public async ValueTask NoteAsync(Id16 jobId, string text, CancellationToken cancellationToken)
    {
        using (await _changing.CloseAsync(cancellationToken))
        {
            if (_active.TryGetValue(jobId, out var job))
            {
                await ChangeAsync(job, job, [new JobLogLine(time.NowMs(), text)], cancellationToken);
            }
        }
    }

    /// <summary>Ends a job from this side; nothing happens to one that is over.</summary>
    public async ValueTask FinishAsync(
        Id16 jobId, JobPhase state, byte[] result, string failureMessage, FaultReason failureReason, CancellationToken cancellationToken)
    {
        using (await _changing.CloseAsync(cancellationToken))
        {
            if (_active.TryGetValue(jobId, out var before))
            {
                var after = before with { State = state, EndedMs = time.NowMs(), Result = result, FailureMessage = failureMessage, FailureReason = failureReason };
                await ChangeAsync(before, after, [], cancellationToken);
                connections.Nudge(after.Agent);
            }
        }
    }

    /// <summary>
    /// The agent's process is a new one: what the old one ran starts again under the next attempt, or has failed. A
    /// backup whose point was committed has succeeded.
    /// </summary>
    public async ValueTask RestartAgentAsync(string agent, CancellationToken cancellationToken)
    {
        using (await _changing.CloseAsync(cancellationToken))
        {
            foreach (var before in _active.Values.Where(job => job.Agent == agent && job.State == JobPhase.Running).ToList())
            {
                // First: a commit of the old process that is under way decides what becomes of the job.
                if (AttemptEnded is { } ended)
                {
                    await ended(before.JobId);
                }
                await ChangeAsync(before, await NextAttemptAsync(before, cancellationToken), [], cancellationToken);
            }
        }
    }

    /// <summary>Fails the jobs that ask for what an agent that has just connected does not know.</summary>
    internal async ValueTask RefuseUnknownAsync(string agent, AgentAbilities abilities, CancellationToken cancellationToken)
    {
        using (await _changing.CloseAsync(cancellationToken))
        {
            foreach (var before in _active.Values.Where(job => job.Agent == agent).ToList())
            {
                if (abilities.Refuse(before) is { } refused)
                {
                    await ChangeAsync(before, before with { State = JobPhase.Failed, EndedMs = time.NowMs(), FailureMessage = refused.Message, FailureReason = refused.Reason }, [], cancellationToken);
                }
            }
        }
    }

    public void Dispose() => _changing.Dispose();

    private async ValueTask<JobRow> NextAttemptAsync(JobRow job, CancellationToken cancellationToken)
    {
        if (job.Kind == JobKind.Backup && await catalog.Points.FindAsync(job.PointId, cancellationToken) is not null)
        {
            return job with { State = JobPhase.Succeeded, EndedMs = time.NowMs() };
        }
        if (job.CancelRequested)
        {
            return job with { State = JobPhase.Cancelled, EndedMs = time.NowMs() };
        }
        // A restore that was cut short left files behind: people decide, no second try writes into them. A group is not cut twice.
        if (job.Kind == JobKind.Restore || job.Attempt >= AttemptsMax || JobMessages.IsOfGroup(job))
        {
            return job with
            {
                State = JobPhase.Failed,
                EndedMs = time.NowMs(),
                FailureMessage = $"The agent '{job.Agent}' was restarted while the job ran (attempt {job.Attempt}): see its log, then start the job again."
                    + (job.Kind == JobKind.Restore ? " If the restored machine is there, it is complete: what was not has been removed." : ""),
                FailureReason = FaultReason.Unavailable,
            };
        }
        return job with { State = JobPhase.Queued, Attempt = job.Attempt + 1, Progress = [] };
    }

    private async ValueTask<JobRow> ChangeAsync(JobRow before, JobRow after, JobLogLine[] lines, CancellationToken cancellationToken)
    {
        if (after.IsFinal && !before.IsFinal && LastWords?.Invoke(after.JobId) is { } words)
        {
            lines = [.. lines, new JobLogLine(time.NowMs(), words)];
        }
        var fact = after.State != before.State || after.Attempt != before.Attempt || after.CancelRequested != before.CancelRequested || after.Start != before.Start || lines.Length > 0;
        // Asked for by people; a migration under way keeps its own account.
        if (after is { Kind: JobKind.RetireMachine, State: JobPhase.Succeeded, RequestId: null })
        {
            await catalog.Migrations.MarkSourceRemovedAsync(after.VmId, after.Agent, after.CreatedMs, cancellationToken);
        }
        if (fact || time.GetElapsedTime(_savedAt.GetValueOrDefault(after.JobId)) >= ProgressSaveInterval)
        {
            await catalog.Jobs.SaveAsync(after, lines, cancellationToken);
            _savedAt[after.JobId] = time.GetTimestamp();
        }
        if (after.IsFinal)
        {
            _active.TryRemove(after.JobId, out _);
            _savedAt.TryRemove(after.JobId, out _);
            if (after is { Kind: JobKind.Restore, State: not JobPhase.Succeeded })
            {
                await estimates.WithdrawAsync(after.JobId, cancellationToken);
            }
            Cuts?.End(after);
            LogEnded(after.Kind, after.JobId, after.VmName, after.State, after.FailureMessage);
        }
        else
        {
            _active[after.JobId] = after;
        }
        _feed.Publish(after);
        if (after.IsFinal)
        {
            connections.Nudge(after.Agent);
            if (AttemptEnded is { } ended)
            {
                await ended(after.JobId);
            }
        }
        return after;
    }

    [LoggerMessage(Level = LogLevel.Information, Message = "{Kind} job {JobId} of '{Vm}' was made for agent '{Agent}'.")]
    private partial void LogCreated(JobKind kind, Id16 jobId, string vm, string agent);

    [LoggerMessage(Level = LogLevel.Information, Message = "{Kind} job {JobId} of '{Vm}' is over: {State}. {Failure}")]
    private partial void LogEnded(JobKind kind, Id16 jobId, string vm, JobPhase state, string failure);
}
