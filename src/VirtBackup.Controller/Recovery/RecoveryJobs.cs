using Google.Protobuf;
using VirtBackup.Catalog;
using VirtBackup.Controller.Control;
using VirtBackup.Core;
using VirtBackup.Protocol.Agent.V1;

namespace VirtBackup.Controller.Recovery;

/// <summary>The jobs of agents that a recovery run is made of. Each has a request id, so that asking again finds the one that there is.</summary>
internal sealed class RecoveryJobs(Id16 run, RecoveryPlan plan, JobService jobs, AgentErrands errands, JobRecords records, IEntropy entropy, TimeProvider time)
{
    /// <summary>One host that is away must not hold up the others.</summary>
    private static readonly TimeSpan CheckPatience = TimeSpan.FromMinutes(1);

    /// <summary>
    /// Checks a restore and foretells its time; the machine is not started by it, so that the time is that of its disks. The job when it
    /// is over: cancelled, when the agent was away for too long.
    /// </summary>
    public async Task<JobRow> CheckAsync(PlannedMachine machine, bool sample, CancellationToken cancellationToken)
    {
        var options = machine.RestoreOptions;
        (options.Start, options.SkipSample) = (false, !sample);
        var errand = new Errand(RequestOf(machine, "check"), JobKind.RestoreCheck, machine.Agent, machine.VmId, machine.VmName, options.ToByteArray())
        {
            PointId = machine.PointId, Start = new StartOrder { SideBySide = (uint)plan.SideBySide(machine) }.ToByteArray(), Patience = CheckPatience,
        };
        return await errands.RunAsync(errand, static _ => ValueTask.CompletedTask, cancellationToken, cancellationToken);
    }

    /// <summary>Restores the machine's disks; its start waits for <see cref="SetGateAsync"/>.</summary>
    public ValueTask<JobRow> RestoreAsync(PlannedMachine machine, CancellationToken cancellationToken) => jobs.CreateAsync(
        new JobRow
        {
            JobId = Id16.Create(entropy), RequestId = RequestOf(machine, "restore"), Kind = JobKind.Restore, Agent = machine.Agent, VmId = machine.VmId, VmName = machine.VmName,
            PointId = machine.PointId, Options = machine.Options, CreatedMs = time.NowMs(),
            Start = new StartOrder { Gate = StartOrder.Types.Gate.Closed, Probe = machine.ReadinessProbe, SideBySide = (uint)plan.SideBySide(machine) }.ToByteArray(),
        },
        cancellationToken);

    /// <summary>The machine's restore, if it was begun.</summary>
    public ValueTask<JobRow?> FindRestoreAsync(PlannedMachine machine, CancellationToken cancellationToken) => records.FindByRequestAsync(RequestOf(machine, "restore"), cancellationToken);

    public ValueTask SetGateAsync(JobRow restore, StartOrder.Types.Gate gate, CancellationToken cancellationToken) => jobs.SetGateAsync(restore.JobId, gate, cancellationToken);

    /// <summary>Asks for the end of all that goes on.</summary>
    public async ValueTask CancelAsync(CancellationToken cancellationToken)
    {
        foreach (var request in plan.Machines.SelectMany(machine => new[] { RequestOf(machine, "check"), RequestOf(machine, "restore") }))
        {
            if (await records.FindByRequestAsync(request, cancellationToken) is { IsFinal: false } job)
            {
                await jobs.CancelAsync(job.JobId, cancellationToken);
            }
        }
    }

    private string RequestOf(PlannedMachine machine, string part) => $"recovery-{run}-{machine.VmId}-{part}";
}
