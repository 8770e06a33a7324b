using VirtBackup.Catalog;
using VirtBackup.Catalog.Dependencies;
using VirtBackup.Controller.Admin;
using VirtBackup.Core;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Controller.Recovery;

/// <summary>Dependencies and probes, for people.</summary>
internal sealed class DependencyOutlook(DependencyRecords records, References references)
{
    /// <summary>Machines that need, are needed, or have a probe: by stage, then by name.</summary>
    /// <param name="only">Only this one, what it needs, and what needs it, at any distance; null: all.</param>
    public async ValueTask<IReadOnlyList<DependentMachine>> DescribeAsync(Id16? only, CancellationToken cancellationToken)
    {
        var edges = await records.ListAsync(cancellationToken);
        var probes = await records.ListProbesAsync(cancellationToken);
        var graph = new DependencyGraph(edges);
        var machines = edges.SelectMany(static edge => new[] { edge.VmId, edge.Needs }).Concat(probes.Keys).ToHashSet();
        if (only is { } chosen)
        {
            machines.Add(chosen);
            machines.RemoveWhere(machine => graph.FindWay(chosen, machine) is null && graph.FindWay(machine, chosen) is null);
        }
        var names = new Dictionary<Id16, string>();
        foreach (var machine in machines.Concat(machines.SelectMany(graph.NeedsOf)).Distinct().ToList())
        {
            names[machine] = await references.NameMachineAsync(machine, cancellationToken);
        }
        var list = new List<DependentMachine>();
        foreach (var (number, stage) in graph.Stages(machines).Index())
        {
            foreach (var machine in stage.OrderBy(machine => names[machine], StringComparer.Ordinal))
            {
                var probe = Probes.ToMessage(probes.GetValueOrDefault(machine));
                var message = new DependentMachine
                {
                    VmId = machine.ToString(), VmName = names[machine], Stage = (uint)number + 1, Probe = probes.ContainsKey(machine) ? probe : null, ProbeText = Probes.Describe(probe),
                };
                message.Needs.Add(graph.NeedsOf(machine).Select(needed => names[needed]).Order(StringComparer.Ordinal));
                list.Add(message);
            }
        }
        return list;
    }

    public async ValueTask<DependentMachine> DescribeOneAsync(Id16 machine, CancellationToken cancellationToken) =>
        (await DescribeAsync(machine, cancellationToken)).Single(described => described.VmId == machine.ToString());
}
