using VirtBackup.Core;

namespace VirtBackup.Catalog.Dependencies;

/// <summary>One piece of a way through a recovery run. Seconds since the run's begin.</summary>
/// <param name="IsStart">From the order to start until it is ready; otherwise the restore of its disks.</param>
public readonly record struct RecoveryLeg(Id16 VmId, bool IsStart, double BeginSeconds, double EndSeconds);

/// <summary>How a recovery run goes when every machine takes what it is expected to.</summary>
/// <param name="Seconds">Until the last machine is ready.</param>
/// <param name="CriticalPath">What it takes so long for: each leg began when the one before ended. The first begins at 0.</param>
/// <param name="Ready">When each machine is ready.</param>
public sealed record RecoveryForecast(double Seconds, IReadOnlyList<RecoveryLeg> CriticalPath, IReadOnlyDictionary<Id16, double> Ready)
{
    /// <summary>Plays the order that runs follow, in imagined time.</summary>
    /// <param name="graph">Of these machines alone; without cycles.</param>
    /// <param name="slots">0: no limit.</param>
    public static RecoveryForecast Make(IReadOnlyCollection<Id16> machines, DependencyGraph graph, IReadOnlyDictionary<Id16, RecoveryDurations> durations, int slots)
    {
        ArgumentNullException.ThrowIfNull(machines);
        ArgumentNullException.ThrowIfNull(durations);
        var order = new RecoveryOrder(machines, graph, durations, slots);
        var running = new PriorityQueue<RecoveryLeg, double>();
        var ended = new List<RecoveryLeg>();
        var now = 0.0;
        while (true)
        {
            foreach (var command in order.TakeCommands())
            {
                var isStart = command.Kind == RecoveryOrderKind.Start;
                var took = durations.GetValueOrDefault(command.VmId);
                var leg = new RecoveryLeg(command.VmId, isStart, now, now + (isStart ? took.ReadySeconds : took.RestoreSeconds));
                running.Enqueue(leg, leg.EndSeconds);
            }
            if (!running.TryDequeue(out var next, out now))
            {
                break;
            }
            ended.Add(next);
            if (next.IsStart)
            {
                order.NoteReady(next.VmId);
            }
            else
            {
                order.NoteRestored(next.VmId);
            }
        }
        Check.That(order.IsOver);
        return new RecoveryForecast(ended, graph);
    }

    private RecoveryForecast(List<RecoveryLeg> ended, DependencyGraph graph)
        : this(ended.Count == 0 ? 0 : ended[^1].EndSeconds, PathTo(ended, graph), ended.Where(static leg => leg.IsStart).ToDictionary(static leg => leg.VmId, static leg => leg.EndSeconds))
    {
    }

    // What began at a moment did so because something ended then: what it waits for itself, before whoever made room.
    private static List<RecoveryLeg> PathTo(List<RecoveryLeg> ended, DependencyGraph graph)
    {
        var path = new List<RecoveryLeg>();
        for (var leg = ended.LastOrDefault(); leg.VmId != default; )
        {
            path.Add(leg);
            var at = leg;
            leg = at.BeginSeconds <= 0 && !at.IsStart ? default : ended.Take(ended.IndexOf(at)).Where(before => before.EndSeconds == at.BeginSeconds)
                .OrderBy(before => at.IsStart && before.IsStart && graph.NeedsOf(at.VmId).Contains(before.VmId) ? 0 : at.IsStart && before.VmId == at.VmId ? 1 : 2).FirstOrDefault();
        }
        path.Reverse();
        return path;
    }
}
