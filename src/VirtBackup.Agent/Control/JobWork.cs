using Microsoft.Extensions.Logging;
using VirtBackup.Agent.Capture;
using VirtBackup.Agent.Moving;
using VirtBackup.Agent.Restore;
using VirtBackup.Agent.Restore.Starting;
using VirtBackup.Core;
using VirtBackup.Hypervisors;
using VirtBackup.Protocol.Agent.V1;
using VirtBackup.Protocol.Common.V1;
using VirtBackup.Protocol.Grpc;
using VirtBackup.Protocol.Transport;
using RestorePlacement = VirtBackup.Protocol.Common.V1.RestorePlacement;

namespace VirtBackup.Agent.Control;

/// <summary>Does the work of a job and turns every outcome into its final report.</summary>
internal sealed partial class JobWork(IControlTransport control, BackupContext context, IReadOnlyList<IHypervisor> hypervisors, ILogger logger)
{
    private readonly MachineTurns _turns = new();
    private readonly TaskOptions _options = new(control, context.Tools);
    private readonly MachineWork _machines = new(hypervisors, context.Tools);

    public async Task<JobReport> RunAsync(JobSlot slot)
    {
        var job = slot.Job;
        var report = new JobReport { JobId = job.JobId, Attempt = job.Attempt };
        try
        {
            await DispatchAsync(slot, report);
            report.State = JobState.Succeeded;
        }
        catch (OperationCanceledException) when (slot.Stopping.IsCancellationRequested)
        {
            report.State = slot.CancelRequested ? JobState.Cancelled : JobState.Failed;
            report.FailureMessage = !slot.CancelRequested ? "The agent was stopped."
                : slot.Progress.StartStage == StartStage.Probing ? "Cancelled; the machine was restored and started already, and runs on."
                : job.Restore?.Options?.Placement == RestorePlacement.InPlace && slot.Progress.StartStage == StartStage.Restored ? "Cancelled; the disks are restored, and the machine was not started."
                : job.Restore?.Options?.Placement == RestorePlacement.InPlace ? "Cancelled; the disks may be half restored: run the restore in place again to finish it."
                : "Cancelled; nothing was left behind.";
            report.FailureReason = ErrorReason.Cancelled;
        }
        catch (FaultException fault)
        {
            report.State = JobState.Failed;
            report.FailureMessage = fault.Message.Length <= 4096 ? fault.Message : fault.Message[..4096];
            report.FailureReason = FaultStatus.ToReason(fault.Reason);
            LogFault(logger, job.JobId, fault.Message);
        }
#pragma warning disable CA1031 // Whatever went wrong must reach the operator as the job's outcome, not end the agent.
        catch (Exception exception)
#pragma warning restore CA1031
        {
            report.State = JobState.Failed;
            report.FailureMessage = $"A defect of the agent ended the job ({exception.GetType().Name}). The agent's log has the details; please report them.";
            LogDefect(logger, exception, job.JobId);
        }
        report.Progress = slot.Progress.ToMessage();
        report.Survey = slot.Progress.Survey;
        slot.TellCut(report);
        report.LogLines.AddRange(slot.Progress.TakeLog());
        ControlMessages.Fit(report);
        context.Tools.JobEnded?.Invoke();
        return report;
    }

    private async Task DispatchAsync(JobSlot slot, JobReport report)
    {
        var job = await _options.CompleteAsync(slot.Job, slot.Stopping);
        switch (job.TaskCase)
        {
            case Job.TaskOneofCase.Backup:
                await InTurnAsync(job.Backup.VmId, slot, async machine =>
                {
                    var hypervisor = await FindAsync(machine, slot.Stopping);
                    report.Backup = await new BackupRun(context, hypervisor, job, machine, ParseId(job.Backup.PointId, "recovery point"), slot.Progress)
                    {
                        Gate = job.Backup.Options is { GroupRunId.Length: > 0 } ? GateOf(slot, hypervisor) : null,
                    }.RunAsync(slot.Stopping);
                });
                break;
            case Job.TaskOneofCase.Restore when job.Restore.Options is { Placement: RestorePlacement.Replace or RestorePlacement.InPlace } or { Adopt: true }:
                await InTurnAsync(job.Restore.VmId, slot, async _ =>
                    report.Restore = await RestoreOf(job, job.Restore.VmId, job.Restore.PointId, job.Restore.Options, slot, job.Restore.Start).RunAsync(slot.Stopping));
                break;
            case Job.TaskOneofCase.Restore:
                report.Restore = await RestoreOf(job, job.Restore.VmId, job.Restore.PointId, job.Restore.Options, slot, job.Restore.Start).RunAsync(slot.Stopping);
                break;
            case Job.TaskOneofCase.CheckRestore:
                report.CheckRestore = await RestoreOf(job, job.CheckRestore.VmId, job.CheckRestore.PointId, job.CheckRestore.Options, slot).CheckAsync(slot.Stopping);
                break;
            case Job.TaskOneofCase.PlanBackup:
                report.PlanBackup = await PlanAsync(job.PlanBackup, slot);
                break;
            case Job.TaskOneofCase.MoveStorage:
                await InTurnAsync(job.MoveStorage.VmId, slot, async machine =>
                    report.MoveStorage = await (await MoveOfAsync(machine, job.MoveStorage.Options, slot)).RunAsync(slot.Stopping));
                break;
            case Job.TaskOneofCase.CheckMoveStorage:
                report.CheckMoveStorage = await (await MoveOfAsync(ParseId(job.CheckMoveStorage.VmId, "machine"), job.CheckMoveStorage.Options, slot)).CheckAsync(slot.Stopping);
                break;
            case Job.TaskOneofCase.StopMachine:
                await InTurnAsync(job.StopMachine.VmId, slot, async machine => report.StopMachine = await _machines.StopAsync(machine, job.StopMachine, slot.Progress, slot.Stopping));
                break;
            case Job.TaskOneofCase.StartMachine:
                await InTurnAsync(job.StartMachine.VmId, slot, async machine => report.StartMachine = await _machines.StartAsync(machine, slot.Progress, slot.Stopping));
                break;
            case Job.TaskOneofCase.RetireMachine:
                await InTurnAsync(job.RetireMachine.VmId, slot, async machine => report.RetireMachine = await _machines.RetireAsync(machine, job.RetireMachine, slot.Progress, slot.Stopping));
                break;
            default:
                throw new FaultException(FaultReason.Unsupported, "The controller assigned a kind of job that this agent does not know. Update the agent.");
        }
    }

    /// <summary>When no other job changes the machine.</summary>
    private async Task InTurnAsync(string machine, JobSlot slot, Func<Id16, Task> work)
    {
        var id = ParseId(machine, "machine");
        using var turn = await _turns.EnterAsync(id, slot.Stopping);
        await work(id);
    }

    private static GroupGate GateOf(JobSlot slot, IHypervisor hypervisor) => hypervisor.HoldsAtGate
        ? slot.Gate
        : throw new FaultException(FaultReason.Unsupported, $"Machines of the platform '{hypervisor.Kind}' cannot be cut together with others: take this one out of the group.");

    private RestoreRun RestoreOf(Job job, string machine, string point, RestoreOptions? options, JobSlot slot, StartOrder? start = null) => new(
        context, hypervisors, job.JobId, job.Attempt, ParseId(machine, "machine"), ParseId(point, "recovery point"), options ?? new RestoreOptions(), slot.Progress)
    {
        Start = start is null ? null
            : new OrderedStart(slot.StartGate, start.Probe, new ReadinessProbes(context.Tools.ProbeCommands, context.Tools.Time), context.Tools.BeginUrgent, slot.Progress, context.Tools.Time),
    };

    private async Task<StorageMoveRun> MoveOfAsync(Id16 machine, StorageMoveOptions? options, JobSlot slot) =>
        new(context, await FindAsync(machine, slot.Stopping), machine, options ?? new StorageMoveOptions(), slot.Progress);

    private async Task<BackupPlan> PlanAsync(PlanBackupTask task, JobSlot slot)
    {
        slot.Progress.Enter("predicting");
        var machine = ParseId(task.VmId, "machine");
        var options = task.Options ?? new BackupOptions();
        var hypervisor = await FindAsync(machine, slot.Stopping);
        var settled = await new BaseChoice(context, hypervisor, machine, slot.Progress).FindAsync(slot.Stopping);
        var request = new CaptureRequest(machine, Id16.Create(context.Tools.Entropy), options.Full ? null : settled?.Point, options.ExcludedDisks.ToHashSet(StringComparer.Ordinal))
        {
            BaseTokens = settled?.BaseTokens ?? new Dictionary<Id16, string>(),
            WithState = StateStreams.ModeOf(options.State),
        };
        var plan = await hypervisor.PlanCaptureAsync(request, slot.Stopping);
        var result = new BackupPlan { FleeceBytesMax = (ulong)plan.FleeceBytesMax, FleeceBytesFree = (ulong)plan.FleeceBytesFree };
        result.Disks.AddRange(plan.Disks.Select(disk => new Protocol.Common.V1.DiskPlan
        {
            DiskId = disk.Disk.Id.ToString(),
            Name = disk.Disk.Name,
            LengthBytes = (ulong)disk.Disk.LengthBytes,
            ChangedOnly = disk.ChangedOnly,
            ReadBytes = (ulong)disk.ReadBytes,
            Reason = disk.Disk.SkipReason ?? disk.Reason,
            Skipped = disk.Disk.SkipReason is not null,
        }));
        return result;
    }

    private async Task<IHypervisor> FindAsync(Id16 machine, CancellationToken cancellationToken)
    {
        foreach (var hypervisor in hypervisors)
        {
            if ((await hypervisor.ListMachinesAsync(cancellationToken)).Any(summary => summary.Id == machine))
            {
                return hypervisor;
            }
        }
        throw new FaultException(FaultReason.NotFound, $"This host has no machine {machine.ToUuidString()}. Check agent.yaml.");
    }

    private static Id16 ParseId(string text, string what) =>
        Id16.TryParse(text, out var id) ? id : throw FaultException.Malformed($"The controller named a {what} by '{text}', which is not an identifier.");

    [LoggerMessage(Level = LogLevel.Warning, Message = "Job {JobId} failed: {Reason}")]
    private static partial void LogFault(ILogger logger, string jobId, string reason);

    [LoggerMessage(Level = LogLevel.Error, Message = "Job {JobId} ended by a defect")]
    private static partial void LogDefect(ILogger logger, Exception exception, string jobId);
}
