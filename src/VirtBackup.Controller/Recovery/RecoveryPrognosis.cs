using VirtBackup.Catalog;
using VirtBackup.Catalog.Dependencies;
using VirtBackup.Core;
using VirtBackup.Protocol.Agent.V1;
using VirtBackup.Protocol.Common.V1;

namespace VirtBackup.Controller.Recovery;

/// <summary>Checks each restore of a run on its host before the first one begins, and foretells how long its parts take.</summary>
internal sealed class RecoveryPrognosis(Id16 run, RecoveryPlan plan, RecoveryJobs children, RecoveryRecords records)
{
    /// <summary>Of each agent so many restores are measured, one after the other: measurements side by side disturb each other, and every one takes time.</summary>
    private const int SamplesMax = 4;

    // An agent is assigned no more than some hundred jobs at a time.
    private const int ChecksAtOnce = 32;

    /// <summary>One row for each machine; one whose restore is not possible has failed, with the reason.</summary>
    public async ValueTask<Dictionary<Id16, RecoveryMachineRow>> MakeAsync(CancellationToken cancellationToken)
    {
        var agents = plan.Machines.GroupBy(static machine => machine.Agent).Select(machines => CheckAsync([.. machines], cancellationToken)).ToList();
        return (await Task.WhenAll(agents)).SelectMany(static rows => rows).ToDictionary(static row => row.VmId);
    }

    private async Task<IReadOnlyList<RecoveryMachineRow>> CheckAsync(IReadOnlyList<PlannedMachine> machines, CancellationToken cancellationToken)
    {
        await Task.Yield();
        var rows = new List<RecoveryMachineRow>();
        foreach (var machine in machines.Take(SamplesMax))
        {
            rows.Add(await CheckAsync(machine, sample: true, cancellationToken));
        }
        foreach (var some in machines.Skip(SamplesMax).Chunk(ChecksAtOnce))
        {
            rows.AddRange(await Task.WhenAll(some.Select(machine => CheckAsync(machine, sample: false, cancellationToken))));
        }
        return rows;
    }

    private async Task<RecoveryMachineRow> CheckAsync(PlannedMachine machine, bool sample, CancellationToken cancellationToken)
    {
        var row = await WithReadinessAsync(machine, cancellationToken);
        JobRow check;
        try
        {
            check = await children.CheckAsync(machine, sample, cancellationToken);
        }
        catch (FaultException refused)
        {
            return Failed(row, refused.Message);
        }
        if (check.State != JobPhase.Succeeded)
        {
            return Failed(row, check.State == JobPhase.Cancelled ? $"Its check was cancelled: its agent '{machine.Agent}' could not be reached, or somebody asked for it." : check.FailureMessage);
        }
        var result = CheckRestoreResult.Parser.ParseFrom(check.Result);
        var blocked = result.Findings.Where(static finding => finding.Severity == RestoreFinding.Types.Severity.Blocks).Select(static finding => finding.Message).ToArray();
        if (blocked.Length > 0)
        {
            return Failed(row, $"It cannot be restored there: {string.Join(" ", blocked)}");
        }
        var (p50, p90) = (result.Estimate?.P50Seconds ?? 0, result.Estimate?.P90Seconds ?? 0);
        return row with { P50 = row.P50 with { RestoreSeconds = p50 }, P90 = row.P90 with { RestoreSeconds = p90 } };
    }

    private async ValueTask<RecoveryMachineRow> WithReadinessAsync(PlannedMachine machine, CancellationToken cancellationToken)
    {
        var probe = machine.ProbeText;
        var own = await records.ListReadySecondsAsync(machine.VmId, machine.Agent, probe, ReadyTimes.CountMax, cancellationToken);
        var others = own.Count > 0 ? [] : await records.ListReadySecondsAsync(machine.Agent, probe.Split(' ')[0], ReadyTimes.CountMax, cancellationToken);
        var (p50, p90) = ReadyTimes.Foretell(own, others);
        return new RecoveryMachineRow
        {
            RunId = run, VmId = machine.VmId, Agent = machine.Agent, ProbeKey = probe, P50 = new RecoveryDurations(0, p50), P90 = new RecoveryDurations(0, p90), JudgedBy = own.Count,
        };
    }

    private static RecoveryMachineRow Failed(RecoveryMachineRow row, string message) =>
        row with { Step = RecoveryStep.Failed, Message = message, P50 = default, P90 = default };
}
