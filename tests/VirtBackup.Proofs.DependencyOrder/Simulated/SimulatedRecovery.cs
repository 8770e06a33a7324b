using VirtBackup.Catalog.Dependencies;
using VirtBackup.Core;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.DependencyOrder.Simulated;

/// <summary>
/// One recovery in imagined time: a random graph, random times, perhaps a limit of slots, perhaps failures, and a controller that is
/// restarted now and then. The order's commands are carried out to the letter; what is right is judged from the graph alone.
/// </summary>
internal sealed class SimulatedRecovery
{
    private const double MakespanMax = 1.05;

    private readonly SimulationTally _tally;
    private readonly Random _random;
    private readonly string? _sabotage;
    private readonly Id16[] _machines;
    private readonly HashSet<(Id16 Machine, Id16 Needs)> _edges;
    private readonly ILookup<Id16, Id16> _needs;
    private readonly Dictionary<Id16, HashSet<Id16>> _allNeeds = [];
    private readonly Dictionary<Id16, RecoveryDurations> _durations;
    private readonly HashSet<Id16> _failing;
    private readonly int _slots;
    private readonly Dictionary<Id16, double> _ready = [];
    private readonly Dictionary<Id16, RecoveryStep> _seen = [];
    private readonly List<(double At, Id16 Machine, bool IsStart)> _running = [];

    public SimulatedRecovery(Random random, string? sabotage, SimulationTally tally)
    {
        (_tally, _random, _sabotage) = (tally, random, sabotage);
        _machines = [.. Enumerable.Range(1, _random.Next(1, 51)).Select(static i => new Id16((UInt128)i))];
        var order = _machines.ToArray();
        _random.Shuffle(order);
        // From chains and trees to graphs in which nearly everybody needs everybody.
        var perMachine = Math.Exp(_random.NextDouble() * 4) / 3;
        _edges = [.. from i in Enumerable.Range(0, order.Length) from j in Enumerable.Range(0, i) where _random.NextDouble() < perMachine / i select (order[i], order[j])];
        _needs = _edges.ToLookup(static edge => edge.Machine, static edge => edge.Needs);
        // In the order of their making everybody comes behind all that he needs.
        foreach (var machine in order)
        {
            _allNeeds[machine] = [.. _needs[machine], .. _needs[machine].SelectMany(needed => _allNeeds[needed])];
        }
        _durations = _machines.ToDictionary(static machine => machine, _ => new RecoveryDurations(Duration(), Duration()));
        _slots = _random.Next(2) == 0 ? 0 : _random.Next(1, 9);
        _failing = _random.Next(2) == 0 ? [] : [.. _machines.Where(_ => _random.Next(12) == 0)];
    }

    public void Run()
    {
        RequireCycleRefused();
        var order = NewOrder();
        var now = 0.0;
        while (true)
        {
            foreach (var command in order.TakeCommands())
            {
                Carry(order, command, now);
            }
            RequireNoIdleness(now);
            if (_running.Count == 0)
            {
                break;
            }
            var next = _running.MinBy(static step => step.At);
            _running.Remove(next);
            now = next.At;
            End(order, next, now);
            if (_random.Next(20) == 0)
            {
                order = NewOrder();
                _tally.Resumed++;
            }
        }
        Require(order.IsOver, "nothing goes on, and it is not over");
        RequireOutcome(now);
        _tally.Recoveries++;
        _tally.MachinesMax = Math.Max(_tally.MachinesMax, _machines.Length);
    }

    // Many take nothing at all, some very long.
    private double Duration() => _random.Next(8) == 0 ? 0 : Math.Round(Math.Exp(_random.NextDouble() * 5), 2);

    // As a controller that was restarted makes it: from what it has stored.
    private RecoveryOrder NewOrder()
    {
        var edges = _sabotage == Sabotages.ForgetEdge ? _edges.Skip(1) : _edges;
        return new RecoveryOrder(
            _machines, new DependencyGraph(edges.Select(static edge => new Dependency(edge.Machine, edge.Needs))), _durations, _sabotage == Sabotages.IdleSlot && _slots == 0 ? 1 : _slots,
            _machines.ToDictionary(static machine => machine, machine => _seen.GetValueOrDefault(machine)));
    }

    private void Carry(RecoveryOrder order, RecoveryCommand command, double now)
    {
        switch (command.Kind)
        {
            case RecoveryOrderKind.Restore:
                Require(_seen.GetValueOrDefault(command.VmId) == RecoveryStep.Waiting, $"{command.VmId} is restored twice");
                _seen[command.VmId] = RecoveryStep.Restoring;
                _running.Add((now + _durations[command.VmId].RestoreSeconds, command.VmId, false));
                break;
            case RecoveryOrderKind.Start:
                Require(_seen.GetValueOrDefault(command.VmId) == RecoveryStep.Restored, $"{command.VmId} is started without whole disks");
                foreach (var needed in _needs[command.VmId])
                {
                    Require(_ready.TryGetValue(needed, out var ready) && ready <= now, $"{command.VmId} is started at {now}, and {needed}, which it needs, is not ready");
                }
                _seen[command.VmId] = RecoveryStep.Starting;
                _running.Add((now + _durations[command.VmId].ReadySeconds, command.VmId, true));
                _tally.Starts++;
                break;
            default:
                Require(_seen.GetValueOrDefault(command.VmId) == RecoveryStep.Restored && NeedsFailed(command.VmId), $"{command.VmId} is kept off, and nothing that it needs failed");
                _seen[command.VmId] = RecoveryStep.NotStarted;
                order.NoteLeftOff(command.VmId);
                break;
        }
        Require(_slots == 0 || _running.Count <= _slots, $"{_running.Count} go on with {_slots} slots");
    }

    private void End(RecoveryOrder order, (double At, Id16 Machine, bool IsStart) step, double now)
    {
        // Half of those that fail do so in the restore.
        if (_failing.Contains(step.Machine) && step.IsStart == (step.Machine.Value % 2 == 0))
        {
            _seen[step.Machine] = RecoveryStep.Failed;
            _tally.Failures++;
            order.NoteFailed(step.Machine);
        }
        else if (step.IsStart)
        {
            _seen[step.Machine] = RecoveryStep.Ready;
            _ready[step.Machine] = now;
            order.NoteReady(step.Machine);
        }
        else
        {
            _seen[step.Machine] = RecoveryStep.Restored;
            order.NoteRestored(step.Machine);
        }
    }

    /// <summary>Nothing waits that could go on.</summary>
    private void RequireNoIdleness(double now)
    {
        if (_slots > 0 && _running.Count >= _slots)
        {
            return;
        }
        foreach (var machine in _machines)
        {
            var step = _seen.GetValueOrDefault(machine);
            Require(step != RecoveryStep.Waiting || NeedsFailed(machine), $"at {now} {machine} could be restored and is not");
            Require(step != RecoveryStep.Restored || !_needs[machine].All(_ready.ContainsKey), $"at {now} {machine} could be started and is not");
        }
    }

    private void RequireOutcome(double took)
    {
        foreach (var machine in _machines)
        {
            var doomed = NeedsFailed(machine);
            _tally.KeptOff += doomed ? 1 : 0;
            Require(_ready.ContainsKey(machine) == (!doomed && !_failing.Contains(machine)), $"{machine} {(doomed ? "is ready though something that it needs failed" : "is not ready, and nothing that it needs failed")}");
        }
        if (_slots > 0 || _failing.Count > 0)
        {
            return;
        }
        var longest = LongestWay();
        var share = longest > 0 ? took / longest : 1;
        _tally.WorstShare = Math.Max(_tally.WorstShare, share);
        Require(share <= MakespanMax, $"it took {took} s, and its longest way takes {longest} s");
        var forecast = RecoveryForecast.Make(_machines, new DependencyGraph(_edges.Select(static edge => new Dependency(edge.Machine, edge.Needs))), _durations, 0);
        Require(Math.Abs(forecast.Seconds - took) < 1e-6, $"it took {took} s, and {forecast.Seconds} s were foretold");
    }

    // By rounds over all edges, until nothing changes: slow, and nothing of the product's.
    private double LongestWay()
    {
        var ready = _machines.ToDictionary(static machine => machine, machine => _durations[machine].RestoreSeconds + _durations[machine].ReadySeconds);
        for (var changed = true; changed;)
        {
            changed = false;
            foreach (var (machine, needed) in _edges)
            {
                var later = ready[needed] + _durations[machine].ReadySeconds;
                changed |= later > ready[machine];
                ready[machine] = Math.Max(ready[machine], later);
            }
        }
        return ready.Values.Max();
    }

    /// <summary>Whether something that the machine needs, at whatever distance, failed by now.</summary>
    private bool NeedsFailed(Id16 machine) => _allNeeds[machine].Any(needed => _seen.GetValueOrDefault(needed) == RecoveryStep.Failed);

    /// <summary>An edge against one that there is, at whatever distance, is known for a circle.</summary>
    private void RequireCycleRefused()
    {
        if (_edges.Count == 0)
        {
            return;
        }
        var (machine, _) = _edges.ElementAt(_random.Next(_edges.Count));
        var needed = _allNeeds[machine].ElementAt(_random.Next(_allNeeds[machine].Count));
        _tally.FarCycles += _edges.Contains((machine, needed)) ? 0 : 1;
        var circular = new DependencyGraph(_edges.Append((needed, machine)).Select(static edge => new Dependency(edge.Item1, edge.Item2)));
        var cycle = circular.FindCycle();
        Require(cycle is not null && cycle.Zip(cycle.Skip(1).Append(cycle[0])).All(step => circular.NeedsOf(step.First).Contains(step.Second)), "a circle is not found");
        _tally.Cycles++;
    }

    private void Require(bool holds, string otherwise)
    {
        if (!holds)
        {
            throw new RefutedException($"Simulated, {_machines.Length} machines, {_edges.Count} dependencies, {(_slots == 0 ? "no limit" : $"{_slots} slots")}: {otherwise}");
        }
    }
}
