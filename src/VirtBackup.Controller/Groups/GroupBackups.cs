using System.Collections.Concurrent;
using Google.Protobuf;
using Microsoft.Extensions.Logging;
using VirtBackup.Catalog;
using VirtBackup.Controller.Control;
using VirtBackup.Core;
using VirtBackup.Protocol.Admin.V1;
using VirtBackup.Protocol.Agent.V1;
using VirtBackup.Protocol.Common.V1;

namespace VirtBackup.Controller.Groups;

/// <summary>
/// Backs up groups: one job for each machine, held to one instant by <see cref="GroupCut"/>, and then followed to their ends. Safe for
/// concurrent use.
/// </summary>
public sealed partial class GroupBackups : ICutSteps, IDisposable
{
    private const int AtOnceMax = 16;

    private readonly CatalogDatabase _catalog;
    private readonly JobService _jobs;
    private readonly AgentConnections _connections;
    private readonly GroupPoints _points;
    private readonly GroupCutLimits _limits;
    private readonly IEntropy _entropy;
    private readonly TimeProvider _time;
    private readonly OwnJobs _queue;
    private readonly ConcurrentDictionary<Id16, RunningCut> _cuts = new();
    private readonly ILogger _logger;

    public GroupBackups(
        CatalogDatabase catalog, JobService jobs, AgentConnections connections, GroupPoints points, GroupCutLimits limits, IEntropy entropy, TimeProvider time, ILogger<GroupBackups> logger)
    {
        (_catalog, _jobs, _connections, _points, _limits, _entropy, _time, _logger) = (catalog, jobs, connections, points, limits, entropy, time, logger);
        _queue = new OwnJobs(RunAsync, "group backup", jobs, logger, AtOnceMax);
    }

    /// <inheritdoc cref="OwnJobs.StartAsync"/>
    public ValueTask StartAsync(JobRow job, CancellationToken cancellationToken) => _queue.StartAsync(job, cancellationToken);

    public void Cancel(Id16 jobId) => _queue.Cancel(jobId);

    /// <summary>Works on the queue until cancelled.</summary>
    public Task RunJobsAsync(CancellationToken cancellationToken) => _queue.RunAsync(cancellationToken);

    /// <summary>Ends the cuts that a controller that is gone has not seen to their ends. When jobs are loaded, before the first call.</summary>
    public async ValueTask SettleAsync(CancellationToken cancellationToken)
    {
        foreach (var run in await _catalog.GroupRuns.ListCuttingAsync(cancellationToken))
        {
            await FailAsync(run, "the controller was restarted during the cut.");
        }
    }

    /// <summary>The machines of a group as they can be backed up now.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.FailedPrecondition"/>: one of them cannot, or there is none.</exception>
    public async ValueTask<IReadOnlyList<MachineRow>> FindMachinesAsync(GroupRow group, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(group);
        if (group.Members.Count == 0)
        {
            throw new FaultException(FaultReason.FailedPrecondition, $"The group '{group.Name}' has no virtual machines: add some to it.");
        }
        var machines = new List<MachineRow>();
        foreach (var vmId in group.Members)
        {
            var machine = await _catalog.Machines.FindAsync(vmId, cancellationToken);
            if (machine is not { Present: true })
            {
                throw new FaultException(FaultReason.FailedPrecondition,
                    $"No agent reports the virtual machine '{machine?.Name ?? vmId.ToString()}' of the group '{group.Name}' any more: check its host's agent, or take it out of the group.");
            }
            if (!_connections.IsConnected(machine.Agent))
            {
                throw new FaultException(FaultReason.FailedPrecondition,
                    $"The agent '{machine.Agent}' of the virtual machine '{machine.Name}' is not connected: all machines of a group are cut, or none.");
            }
            machines.Add(machine);
        }
        return machines;
    }

    CutStep ICutSteps.FindPassed(Id16 jobId) => _cuts.TryGetValue(jobId, out var running) && running.Cut.Failure is null ? running.Cut.Passed : CutStep.Unspecified;

    void ICutSteps.Reach(Id16 jobId, CutStep step, bool held)
    {
        if (_cuts.TryGetValue(jobId, out var running) && running.Cut.Reach(jobId, step, held))
        {
            TellAll(running);
        }
    }

    void ICutSteps.End(JobRow job)
    {
        if (_cuts.TryGetValue(job.JobId, out var running)
            && running.Cut.Lose(job.JobId, job.FailureMessage.Length > 0 ? job.FailureMessage : job.State == JobPhase.Cancelled ? "its job was cancelled." : "its job ended without a cut."))
        {
            TellAll(running);
        }
    }

    /// <summary>An agent's control stream has ended.</summary>
    public void NoteDisconnected(string agent)
    {
        foreach (var (jobId, running) in _cuts)
        {
            if (running.Run.Members.Any(member => member.JobId == jobId && member.Agent == agent) && running.Cut.Disconnect(jobId, agent))
            {
                TellAll(running);
            }
        }
    }

    public void Dispose() => _queue.Dispose();

    private void TellAll(RunningCut running)
    {
        // First of all: guests wait.
        foreach (var agent in running.Run.Members.Select(static member => member.Agent).Distinct())
        {
            _connections.Nudge(agent);
        }
        running.Tell();
    }

    private async ValueTask<IMessage> RunAsync(JobRow job, CancellationToken cancellationToken)
    {
        var request = StartGroupBackupRequest.Parser.ParseFrom(job.Options);
        var group = await _catalog.Groups.FindAsync(request.Name, cancellationToken) ?? throw new FaultException(FaultReason.NotFound, $"There is no group '{request.Name}' any more.");
        var machines = await FindMachinesAsync(group, cancellationToken);
        var run = new GroupRunRow
        {
            RunId = job.JobId, Group = group.Name, StartedMs = _time.NowMs(), SkewBoundMs = group.SkewBoundMs,
            Members = [.. machines.Select(machine => new GroupRunMember(machine.VmId, machine.Name, machine.Agent, Id16.Create(_entropy), Id16.Create(_entropy), Held: false))],
        };
        await _catalog.GroupRuns.SaveAsync(run, cancellationToken);
        run = await CutAsync(run, request.Options ?? new BackupOptions(), cancellationToken);
        await FollowAsync(run, cancellationToken);
        var point = await _points.DescribeAsync(run, cancellationToken);
        return point.Consistent ? point : throw new FaultException(FaultReason.FailedPrecondition,
            $"The recovery point {run.RunId} of the group '{run.Group}' is not {(point.Complete ? "consistent" : "complete")}. {point.Inconsistency} "
            + (point.Complete ? "Each machine's own recovery point is whole." : "What the other machines' jobs stored is whole."));
    }

    /// <returns>The run, with its cut.</returns>
    private async Task<GroupRunRow> CutAsync(GroupRunRow run, BackupOptions options, CancellationToken cancellationToken)
    {
        var running = new RunningCut(run, new GroupCut(run.Members.Select(static member => (member.JobId, member.VmName)), _limits, _time));
        foreach (var member in run.Members)
        {
            _cuts[member.JobId] = running;
        }
        try
        {
            foreach (var member in run.Members)
            {
                await _jobs.CreateAsync(NewJob(run, member, options), cancellationToken);
            }
            await AwaitCutAsync(running, cancellationToken);
            if (running.Cut.Failure is { } failure)
            {
                throw new FaultException(FaultReason.FailedPrecondition, failure);
            }
            var made = run with
            {
                Phase = GroupCutPhase.Made, CutMs = _time.NowMs(), SkewUs = (long)Math.Ceiling(running.Cut.Skew.TotalMicroseconds),
                Members = [.. run.Members.Select(member => member with { Held = running.Cut.WasHeld(member.JobId) })],
            };
            await _catalog.GroupRuns.SaveAsync(made, CancellationToken.None);
            LogCut(run.Group, made.Members.Count, made.SkewUs / 1000);
            return made;
        }
        catch (FaultException fault)
        {
            await FailAsync(run, fault.Message);
            throw new FaultException(fault.Reason, $"The group '{run.Group}' was not cut, and all its machines go on: {fault.Message}", fault);
        }
        catch (Exception failure)
        {
            await FailAsync(run, failure is OperationCanceledException ? "its backup was cancelled, or the controller stopped." : "the controller failed unexpectedly: see its log.");
            throw;
        }
        finally
        {
            foreach (var member in run.Members)
            {
                _cuts.TryRemove(member.JobId, out _);
            }
        }
    }

    private async Task AwaitCutAsync(RunningCut running, CancellationToken cancellationToken)
    {
        var told = CutStep.Released;
        while (!running.Cut.IsOver)
        {
            if (running.Cut.Passed != told)
            {
                told = running.Cut.Passed;
                await _jobs.ProgressAsync(running.Run.RunId, new Progress { Phase = PhaseOf(told) }.ToByteArray(), cancellationToken);
            }
            await running.WaitAsync(_time, cancellationToken);
            running.Cut.Expire();
        }
    }

    // All their jobs end at once: agents that hear of it let their guests go.
    private async Task FailAsync(GroupRunRow run, string reason)
    {
        foreach (var member in run.Members)
        {
            await _jobs.FinishAsync(
                member.JobId, JobPhase.Failed, [], $"The group '{run.Group}' was not cut: {reason}", FaultReason.FailedPrecondition, CancellationToken.None);
        }
        await _catalog.GroupRuns.SaveAsync(run with { Phase = GroupCutPhase.Failed }, CancellationToken.None);
    }

    private JobRow NewJob(GroupRunRow run, GroupRunMember member, BackupOptions options) => new()
    {
        JobId = member.JobId, Kind = JobKind.Backup, Agent = member.Agent, VmId = member.VmId, VmName = member.VmName, PointId = member.PointId,
        Options = new BackupOptions(options) { GroupRunId = run.RunId.ToString() }.ToByteArray(), CreatedMs = _time.NowMs(),
    };

    /// <summary>Follows the members' jobs to their ends.</summary>
    private async Task FollowAsync(GroupRunRow run, CancellationToken cancellationToken)
    {
        var progress = new GroupProgress(run.RunId, run.Members.Count, _jobs, _time);
        try
        {
            await Task.WhenAll(run.Members.Select(async member =>
            {
                await foreach (var news in _jobs.WatchAsync(member.JobId, cancellationToken))
                {
                    await progress.NoteAsync(news, cancellationToken);
                }
            }));
        }
        catch (OperationCanceledException)
        {
            // When the controller stops, what was cut is stored all the same.
            if ((await _jobs.GetAsync(run.RunId, CancellationToken.None)).CancelRequested)
            {
                foreach (var member in run.Members)
                {
                    await _jobs.CancelAsync(member.JobId, CancellationToken.None);
                }
            }
            throw;
        }
    }

    private static string PhaseOf(CutStep passed) => passed switch
    {
        CutStep.Unspecified => "waiting for all machines",
        CutStep.Ready => "preparing all machines",
        CutStep.Prepared => "freezing",
        CutStep.Frozen => "cutting",
        _ => "letting go",
    };

    [LoggerMessage(Level = LogLevel.Information, Message = "The {Machines} machines of the group '{Group}' were cut within {SkewMs} ms.")]
    private partial void LogCut(string group, int machines, long skewMs);
}
