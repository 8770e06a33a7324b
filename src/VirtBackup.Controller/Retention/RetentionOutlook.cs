using VirtBackup.Catalog;
using VirtBackup.Catalog.Retention;
using VirtBackup.Core;
using VirtBackup.Protocol.Admin.V1;
using VirtBackup.Repository.Points;

namespace VirtBackup.Controller.Retention;

/// <summary>Says of recovery points what keeps them, and when they go if points are made as before. Safe for concurrent use.</summary>
public sealed class RetentionOutlook(PointGathering gathering, PointLocks locks, CatalogDatabase catalog, ITrustedClock clock)
{
    /// <summary>Looked at for each machine when many are asked about, so that a list stays quick.</summary>
    private const int StepsOfMany = 400;

    private const long HorizonMs = 3650L * 24 * 3_600_000;

    /// <summary>Adds what is known to the messages; forgotten points have no outlook.</summary>
    public async ValueTask DescribeAsync(IReadOnlyCollection<RecoveryPoint> points, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(points);
        var machines = points.Where(static point => !point.Forgotten).ToLookup(static point => point.VmId);
        if (machines.Count == 0)
        {
            return;
        }
        var (now, locked) = (await clock.ReadAsync(cancellationToken), await locks.ListAsync(cancellationToken));
        foreach (var machine in machines)
        {
            var found = await gathering.ReadAsync(Id16.Parse(machine.Key), locked, cancellationToken);
            var assumed = new SimulationAssumptions
            {
                NowMs = now.NowMs, IntervalMs = found.TypicalIntervalMs, EndMs = now.NowMs + HorizonMs,
                StepsMax = machines.Count > 1 ? StepsOfMany : SimulationAssumptions.StepsMaxDefault / 5,
            };
            var simulation = RetentionSimulator.Run(found.Rules, found.Points, assumed);
            var outlooks = simulation.Points.ToDictionary(static point => point.Verdict.Point.Id.ToString());
            foreach (var point in machine)
            {
                // One that was committed since is told about the next time.
                point.Retention = outlooks.TryGetValue(point.PointId, out var outlook) ? RetentionMessages.ToMessage(found, outlook, simulation) : null;
            }
        }
    }

    public async ValueTask<MachineRetention> DescribeMachineAsync(Id16 vmId, CancellationToken cancellationToken) =>
        RetentionMessages.ToMessage(await catalog.RuleSets.FindOfAsync(vmId, cancellationToken));
}
