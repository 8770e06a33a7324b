using VirtBackup.Core;

namespace VirtBackup.Catalog.Dependencies;

/// <summary>One machine needs another: it is started only when that one is ready.</summary>
public readonly record struct Dependency(Id16 VmId, Id16 Needs);

/// <summary>Which machines need which. Immutable.</summary>
public sealed class DependencyGraph
{
    private readonly Dictionary<Id16, Id16[]> _needs;

    /// <param name="dependencies">In any order; one that is given twice counts once.</param>
    public DependencyGraph(IEnumerable<Dependency> dependencies)
    {
        ArgumentNullException.ThrowIfNull(dependencies);
        _needs = dependencies.Distinct().GroupBy(static edge => edge.VmId).ToDictionary(static group => group.Key, static group => group.Select(static edge => edge.Needs).Order().ToArray());
    }

    /// <summary>What the machine itself needs, by id.</summary>
    public IReadOnlyList<Id16> NeedsOf(Id16 machine) => _needs.GetValueOrDefault(machine, []);

    /// <summary>A cycle, each machine followed by one that it needs, and the last by the first; null: there is none.</summary>
    public IReadOnlyList<Id16>? FindCycle()
    {
        var done = new HashSet<Id16>();
        foreach (var start in _needs.Keys.Order())
        {
            if (Walk(start, done) is { } cycle)
            {
                return cycle;
            }
        }
        return null;
    }

    /// <summary>The way by which a machine needs another, both included; null: it does not.</summary>
    public IReadOnlyList<Id16>? FindWay(Id16 machine, Id16 needed)
    {
        var before = new Dictionary<Id16, Id16> { [machine] = machine };
        var open = new Queue<Id16>([machine]);
        while (open.TryDequeue(out var at))
        {
            if (at == needed)
            {
                var way = new List<Id16> { at };
                for (; at != machine; way.Add(at))
                {
                    at = before[at];
                }
                way.Reverse();
                return way;
            }
            foreach (var next in NeedsOf(at).Where(next => before.TryAdd(next, at)))
            {
                open.Enqueue(next);
            }
        }
        return null;
    }

    /// <summary>
    /// The graph of these machines alone: one needs another also when it does so by way of machines that are not among them.
    /// </summary>
    public DependencyGraph Among(IReadOnlySet<Id16> machines)
    {
        ArgumentNullException.ThrowIfNull(machines);
        var edges = new List<Dependency>();
        foreach (var machine in machines)
        {
            var seen = new HashSet<Id16>();
            var open = new Stack<Id16>(NeedsOf(machine));
            while (open.TryPop(out var needed))
            {
                if (!seen.Add(needed))
                {
                    continue;
                }
                if (machines.Contains(needed))
                {
                    edges.Add(new Dependency(machine, needed));
                    continue;
                }
                foreach (var next in NeedsOf(needed))
                {
                    open.Push(next);
                }
            }
        }
        return new DependencyGraph(edges);
    }

    /// <summary>
    /// The machines in stages: each needs only machines of earlier stages, and at least one of the stage before. By id within a stage.
    /// </summary>
    /// <exception cref="FaultException"><see cref="FaultReason.FailedPrecondition"/>: there is a cycle.</exception>
    public IReadOnlyList<IReadOnlyList<Id16>> Stages(IEnumerable<Id16> machines)
    {
        var left = machines.ToHashSet();
        var stages = new List<IReadOnlyList<Id16>>();
        var placed = new HashSet<Id16>();
        while (left.Count > 0)
        {
            var stage = left.Where(machine => NeedsOf(machine).All(needed => placed.Contains(needed) || !left.Contains(needed))).Order().ToList();
            if (stage.Count == 0)
            {
                throw new FaultException(FaultReason.FailedPrecondition, "The machines need each other in a circle.");
            }
            stages.Add(stage);
            placed.UnionWith(stage);
            left.ExceptWith(stage);
        }
        return stages;
    }

    // Depth first, without recursion: a chain may be as long as there are machines.
    private List<Id16>? Walk(Id16 start, HashSet<Id16> done)
    {
        var path = new List<Id16>();
        var on = new HashSet<Id16>();
        var open = new Stack<(Id16 Machine, bool Leaving)>([(start, false)]);
        while (open.TryPop(out var step))
        {
            if (step.Leaving)
            {
                path.RemoveAt(path.Count - 1);
                on.Remove(step.Machine);
                done.Add(step.Machine);
                continue;
            }
            if (on.Contains(step.Machine))
            {
                return path[path.IndexOf(step.Machine)..];
            }
            if (done.Contains(step.Machine))
            {
                continue;
            }
            path.Add(step.Machine);
            on.Add(step.Machine);
            open.Push((step.Machine, true));
            foreach (var needed in NeedsOf(step.Machine))
            {
                open.Push((needed, false));
            }
        }
        return null;
    }
}
