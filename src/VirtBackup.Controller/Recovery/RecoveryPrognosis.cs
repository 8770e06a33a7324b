using VirtBackup.Catalog;
using VirtBackup.Catalog.Dependencies;
using VirtBackup.Controller.Control;
using VirtBackup.Core;
using VirtBackup.Protocol.Agent.V1;
using VirtBackup.Protocol.Common.V1;

namespace VirtBackup.Controller.Recovery;

/// <summary>Checks each restore of a run on its host before the first one begins, and foretells how long its parts take.</summary>
internal sealed class RecoveryPrognosis(Id16 run, RecoveryPlan plan, RecoveryJobs children, RecoveryRecords records, JobService jobs)
{
    /// <summary>Of each agent so many restores are measured, one after the other: measurements side by side disturb each other, and every one takes time.</summary>
    private const int SamplesMax = 4;

    /// <summary>One row for each machine; one whose restore is not possible has failed, with the reason.</summary>
    public async ValueTask<Dictionary<Id16, RecoveryMachineRow>> MakeAsync(CancellationToken cancellationToken)
    {
        using var scope = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        var agents = plan.Machines.GroupBy(static machine => machine.Agent).Select(machines => CheckAsync([.. machines], scope.Token)).ToList();
        try
        {
            return (await Task.WhenAll(agents)).SelectMany(static rows => rows).ToDictionary(static row => row.VmId);
        }
        finally
        {
            await scope.CancelAsync();
        }
    }

    private async Task<IReadOnlyList<RecoveryMachineRow>> CheckAsync(IReadOnlyList<PlannedMachine> machines, CancellationToken cancellationToken)
    {
        await Task.Yield();
        var rows = new List<RecoveryMachineRow>();
        foreach (var machine in machines.Take(SamplesMax))
        {
            rows.Add(await CheckAsync(machine, sample: true, cancellationToken));
        }
        rows.AddRange(await Task.WhenAll(machines.Skip(SamplesMax).Select(machine => CheckAsync(machine, sample: false, cancellationToken))));
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
        await foreach (var news in jobs.WatchAsync(check.JobId, cancellationToken))
        {
            check = news;
        }
        if (check.State != JobPhase.Succeeded)
        {
            return Failed(row, check.State == JobPhase.Cancelled ? "Its check was cancelled." : check.FailureMessage);
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
