using Google.Protobuf;
using VirtBackup.Catalog;
using VirtBackup.Controller.Control;
using VirtBackup.Core;
using VirtBackup.Protocol.Agent.V1;

namespace VirtBackup.Controller.Recovery;

/// <summary>The jobs of agents that a recovery run is made of. Each has a request id, so that asking again finds the one that there is.</summary>
internal sealed class RecoveryJobs(Id16 run, RecoveryPlan plan, JobService jobs, JobRecords records, IEntropy entropy, TimeProvider time)
{
    /// <summary>Checks a restore and foretells its time; the machine is not started by it, so that the time is that of its disks.</summary>
    public ValueTask<JobRow> CheckAsync(PlannedMachine machine, bool sample, CancellationToken cancellationToken)
    {
        var options = machine.RestoreOptions;
        (options.Start, options.SkipSample) = (false, !sample);
        return jobs.CreateAsync(New(machine, JobKind.RestoreCheck, "check", options.ToByteArray(), new StartOrder { SideBySide = (uint)plan.SideBySide(machine) }), cancellationToken);
    }

    /// <summary>Restores the machine's disks; its start waits for <see cref="SetGateAsync"/>.</summary>
    public ValueTask<JobRow> RestoreAsync(PlannedMachine machine, CancellationToken cancellationToken) => jobs.CreateAsync(
        New(machine, JobKind.Restore, "restore", machine.Options, new StartOrder
        {
            Gate = StartOrder.Types.Gate.Closed, Probe = machine.ReadinessProbe, SideBySide = (uint)plan.SideBySide(machine),
        }),
        cancellationToken);

    /// <summary>The machine's restore, if it was begun.</summary>
    public ValueTask<JobRow?> FindRestoreAsync(PlannedMachine machine, CancellationToken cancellationToken) => records.FindByRequestAsync(RequestOf(machine, "restore"), cancellationToken);

    public ValueTask SetGateAsync(JobRow restore, StartOrder.Types.Gate gate, CancellationToken cancellationToken) => jobs.SetGateAsync(restore.JobId, gate, cancellationToken);

    /// <summary>Asks for the end of all that goes on.</summary>
    public async ValueTask CancelAsync(CancellationToken cancellationToken)
    {
        foreach (var request in plan.Machines.SelectMany(static machine => new[] { RequestOfPart(machine, "check"), RequestOfPart(machine, "restore") }))
        {
            if (await records.FindByRequestAsync($"recovery-{run}-{request}", cancellationToken) is { IsFinal: false } job)
            {
                await jobs.CancelAsync(job.JobId, cancellationToken);
            }
        }
    }

    private static string RequestOfPart(PlannedMachine machine, string part) => $"{machine.VmId}-{part}";

    private string RequestOf(PlannedMachine machine, string part) => $"recovery-{run}-{RequestOfPart(machine, part)}";

    private JobRow New(PlannedMachine machine, JobKind kind, string part, byte[] options, StartOrder start) => new()
    {
        JobId = Id16.Create(entropy), RequestId = RequestOf(machine, part), Kind = kind, Agent = machine.Agent, VmId = machine.VmId, VmName = machine.VmName,
        PointId = machine.PointId, Options = options, Start = start.ToByteArray(), CreatedMs = time.NowMs(),
    };
}
