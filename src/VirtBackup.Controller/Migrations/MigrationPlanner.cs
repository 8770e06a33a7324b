using Google.Protobuf;
using Microsoft.Extensions.Logging;
using VirtBackup.Catalog;
using VirtBackup.Catalog.Migrations;
using VirtBackup.Controller.Control;
using VirtBackup.Core;
using VirtBackup.Protocol.Admin.V1;
using VirtBackup.Protocol.Common.V1;
using AgentMessages = VirtBackup.Protocol.Agent.V1;

namespace VirtBackup.Controller.Migrations;

/// <summary>Says beforehand whether and how long a machine moves. Plans are jobs of the controller. Safe for concurrent use.</summary>
internal sealed class MigrationPlanner : IDisposable
{
    private const int PointsMax = 20;

    // Each waits for an agent.
    private const int PlansAtOnce = 16;

    private readonly CatalogDatabase _catalog;
    private readonly AgentErrands _errands;
    private readonly AgentConnections _connections;
    private readonly OwnJobs _queue;

    public MigrationPlanner(CatalogDatabase catalog, JobService jobs, AgentErrands errands, AgentConnections connections, ILogger<MigrationPlanner> logger)
    {
        (_catalog, _errands, _connections) = (catalog, errands, connections);
        _queue = new OwnJobs(RunAsync, "migration plan", jobs, logger, PlansAtOnce);
    }

    /// <inheritdoc cref="OwnJobs.StartAsync"/>
    public ValueTask StartAsync(JobRow job, CancellationToken cancellationToken) => _queue.StartAsync(job, cancellationToken);

    public void Cancel(Id16 jobId) => _queue.Cancel(jobId);

    /// <summary>Works on the queue until cancelled.</summary>
    public Task RunJobsAsync(CancellationToken cancellationToken) => _queue.RunAsync(cancellationToken);

    /// <summary>For how long the machine will stand still.</summary>
    /// <param name="estimate">Of copying it to the target; null: unknown.</param>
    public async ValueTask<InterruptionEstimate> PredictDowntimeAsync(MigrationRow row, MigrationOptions options, RestoreEstimate? estimate, CancellationToken cancellationToken)
    {
        var history = await _catalog.Migrations.ListScoredAsync(row.SourceAgent, row.TargetAgent, DowntimeEstimates.CountMax, cancellationToken);
        var bandwidth = estimate is null ? 0 : estimate.SampleBytesPerSecond > 0 ? estimate.SampleBytesPerSecond : estimate.P50Seconds > 0 ? estimate.DataBytes / estimate.P50Seconds : 0;
        // A cold migration copies everything behind the stop.
        var bytes = options.Cold ? (long)(estimate?.DataBytes ?? 0) : Math.Min(await FindLastIncrementAsync(row.VmId, cancellationToken), MigrationDefaults.LastBytesOf(options));
        return DowntimeEstimates.Make([.. history.Where(past => MigrationOptions.Parser.ParseFrom(past.Options).Cold == options.Cold)], bytes, bandwidth);
    }

    public void Dispose() => _queue.Dispose();

    private async ValueTask<IMessage> RunAsync(JobRow job, CancellationToken cancellationToken)
    {
        var options = MigrationOptions.Parser.ParseFrom(job.Options);
        var machine = await _catalog.Machines.FindAsync(job.VmId, cancellationToken) ?? throw new FaultException(FaultReason.NotFound, $"There is no virtual machine {job.VmId}.");
        var plan = new MigrationPlan { SourceAgent = machine.Agent, TargetAgent = options.Agent.Length > 0 ? options.Agent : machine.Agent };
        if (options.Storage is { } storage)
        {
            var checkedMove = await AskAsync(job, JobKind.MoveStorageCheck, machine.Agent, Id16.Empty, storage, cancellationToken);
            plan.Storage = StorageMoveCheck.Parser.ParseFrom(checkedMove.Result);
            plan.Findings.Add(plan.Storage.Findings);
            // What it says of times is this side's: an agent's word for it is passed over.
            (plan.Storage.Estimate, plan.Storage.Interruption) = (null, null);
            plan.Estimate = EstimateOf(plan.Storage);
            return plan;
        }
        plan.LastIncrementBytes = (ulong)await FindLastIncrementAsync(job.VmId, cancellationToken);
        plan.Findings.Add(FindSource(machine, options));
        var newest = await _catalog.Points.FindNewestAsync(job.VmId, null, cancellationToken);
        if (newest is null)
        {
            plan.Findings.Add(Find("target", RestoreFinding.Types.Severity.Unknown,
                "There is no recovery point of the machine yet by which the target could be checked: back it up once, then plan again. A migration makes this comparison after its first copy."));
        }
        else
        {
            var check = AgentMessages.CheckRestoreResult.Parser.ParseFrom(
                (await AskAsync(job, JobKind.RestoreCheck, options.Agent, newest.PointId, MigrationTasks.RestoreOptionsOf(options), cancellationToken)).Result);
            plan.Findings.Add(check.Findings);
            plan.Estimate = check.Estimate;
        }
        var row = new MigrationRow { MigrationId = job.JobId, VmId = job.VmId, VmName = job.VmName, SourceAgent = machine.Agent, TargetAgent = options.Agent, CreatedMs = job.CreatedMs };
        plan.Interruption = await PredictDowntimeAsync(row, options, plan.Estimate, cancellationToken);
        return plan;
    }

    private async Task<JobRow> AskAsync(JobRow plan, JobKind kind, string agent, Id16 point, IMessage options, CancellationToken cancellationToken)
    {
        if (!_connections.IsConnected(agent))
        {
            throw new FaultException(FaultReason.Unavailable, $"The agent '{agent}' is not connected: see that it runs and reaches this controller.");
        }
        var errand = new Errand($"migration-plan/{plan.JobId}/{(int)kind}", kind, agent, plan.VmId, plan.VmName, options.ToByteArray()) { PointId = point, Patience = TimeSpan.FromMinutes(1) };
        var done = await _errands.RunAsync(errand, static _ => ValueTask.CompletedTask, cancellationToken, cancellationToken);
        return done.State == JobPhase.Succeeded ? done
            : throw new FaultException(done.FailureReason == FaultReason.Unspecified ? FaultReason.Unavailable : done.FailureReason, done.FailureMessage.Length > 0 ? done.FailureMessage : $"The agent '{agent}' gave no answer.");
    }

    private static RestoreFinding FindSource(MachineRow machine, MigrationOptions options) =>
        machine.Problem.Length > 0 ? Find("source", RestoreFinding.Types.Severity.Blocks, $"The machine cannot be captured on {machine.Agent}: {machine.Problem}")
        : !machine.Running && !options.Cold ? Find("source", RestoreFinding.Types.Severity.Adapts, $"The machine is off on {machine.Agent}: it is copied as with --cold.")
        : Find("source", RestoreFinding.Types.Severity.Fits, $"The machine is {(machine.Running ? "running" : "off")} on {machine.Agent} and can be captured.");

    // By the newest increment; 0: none is known.
    private async ValueTask<long> FindLastIncrementAsync(Id16 vmId, CancellationToken cancellationToken) =>
        (await _catalog.Points.ListAsync(vmId, includeForgotten: true, after: null, PointsMax, cancellationToken)).FirstOrDefault(static point => !point.BasePointId.IsEmpty && point.ReadBytes < point.LogicalBytes)?.ReadBytes ?? 0;

    // Without a history: what the sample says.
    private static RestoreEstimate? EstimateOf(StorageMoveCheck check)
    {
        if (check.SampleBytes == 0 || check.SampleSeconds <= 0)
        {
            return null;
        }
        var rate = check.SampleBytes / check.SampleSeconds;
        return new RestoreEstimate { DataBytes = check.DataBytes, Path = check.Path, P50Seconds = check.DataBytes / rate, P90Seconds = 3 * check.DataBytes / rate, SampleBytesPerSecond = rate, Record = new EstimateRecord() };
    }

    private static RestoreFinding Find(string item, RestoreFinding.Types.Severity severity, string message) => new() { Item = item, Severity = severity, Message = message };
}
