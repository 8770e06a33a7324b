using VirtBackup.Core;

namespace VirtBackup.Catalog.Dependencies;

/// <summary>Where a machine of a recovery run is. Values are stored.</summary>
public enum RecoveryStep
{
    /// <summary>Nothing was done for it yet.</summary>
    Waiting = 0,

    /// <summary>Its disks are being restored.</summary>
    Restoring = 1,

    /// <summary>Its disks are whole; it waits for what it needs.</summary>
    Restored = 2,

    /// <summary>It was told to start and is not ready yet.</summary>
    Starting = 3,
    Ready = 4,
    Failed = 5,

    /// <summary>Something that it needs failed. Its disks may be restored; it stays off.</summary>
    NotStarted = 6,
}

/// <summary>What is to be done next for a machine.</summary>
public enum RecoveryOrderKind
{
    Restore,
    Start,

    /// <summary>Its disks are whole, and it must not be started.</summary>
    LeaveOff,
}

/// <param name="Blocker">With <see cref="RecoveryOrderKind.LeaveOff"/>: the machine that it needs and that did not become ready.</param>
public readonly record struct RecoveryCommand(RecoveryOrderKind Kind, Id16 VmId, Id16 Blocker = default);

/// <summary>How long the two parts take that one machine's recovery has. Seconds.</summary>
/// <param name="RestoreSeconds">From its begin to whole disks.</param>
/// <param name="ReadySeconds">From the order to start to the probe's first success.</param>
public readonly record struct RecoveryDurations(double RestoreSeconds, double ReadySeconds);

/// <summary>
/// Decides what may begin: disks at once, as far as there are slots; a start when the disks are whole and everything that the
/// machine needs is ready. When slots are few, what has the longest way before it goes first. A machine holds a slot while its
/// disks are written and while it starts, never while it waits. Knows no clock. Not safe for concurrent use.
/// </summary>
public sealed class RecoveryOrder
{
    private readonly Id16[] _machines;
    private readonly DependencyGraph _graph;
    private readonly int _slots;
    private readonly Dictionary<Id16, RecoveryStep> _steps;
    private readonly ILookup<Id16, Id16> _dependents;
    private readonly Dictionary<Id16, Id16> _blockers = [];
    private readonly HashSet<Id16> _toldToStayOff = [];
    private readonly Dictionary<Id16, double> _fromRestore = [];
    private readonly Dictionary<Id16, double> _fromStart = [];

    /// <param name="graph">Of these machines alone; without cycles.</param>
    /// <param name="durations">What is expected: decides only who goes first when slots are few.</param>
    /// <param name="slots">Restores and starts side by side; 0: no limit.</param>
    /// <param name="steps">Where machines are already, of a run that is taken up again.</param>
    public RecoveryOrder(
        IEnumerable<Id16> machines, DependencyGraph graph, IReadOnlyDictionary<Id16, RecoveryDurations> durations, int slots, IReadOnlyDictionary<Id16, RecoveryStep>? steps = null)
    {
        ArgumentNullException.ThrowIfNull(durations);
        _machines = [.. machines];
        _graph = graph;
        _slots = slots;
        _steps = _machines.ToDictionary(static machine => machine, machine => steps?.GetValueOrDefault(machine) ?? RecoveryStep.Waiting);
        _dependents = _machines.SelectMany(machine => graph.NeedsOf(machine).Select(needed => (Needed: needed, Machine: machine))).ToLookup(static edge => edge.Needed, static edge => edge.Machine);
        foreach (var machine in graph.Stages(_machines).Reverse().SelectMany(static stage => stage))
        {
            var behind = _dependents[machine].Select(other => _fromStart[other]).DefaultIfEmpty().Max();
            var took = durations.GetValueOrDefault(machine);
            _fromStart[machine] = took.ReadySeconds + behind;
            _fromRestore[machine] = took.RestoreSeconds + _fromStart[machine];
        }
        foreach (var machine in _machines.Where(machine => _steps[machine] is RecoveryStep.Failed or RecoveryStep.NotStarted))
        {
            Block(machine);
        }
    }

    public RecoveryStep StepOf(Id16 machine) => _steps[machine];

    /// <summary>The machine that one needs, itself or by way of others, and that failed or is not started.</summary>
    public Id16? BlockerOf(Id16 machine) => _blockers.TryGetValue(machine, out var blocker) ? blocker : null;

    /// <summary>Whether nothing will happen any more.</summary>
    public bool IsOver => _steps.Values.All(static step => step is RecoveryStep.Ready or RecoveryStep.Failed or RecoveryStep.NotStarted);

    /// <summary>Whether there is something to be done now.</summary>
    public bool HasCommands => _machines.Any(machine => _steps[machine] == RecoveryStep.Restored && _blockers.ContainsKey(machine) && !_toldToStayOff.Contains(machine))
        || (FreeSlots > 0 && _machines.Any(MayBegin));

    private int FreeSlots => _slots == 0 ? int.MaxValue : Math.Max(0, _slots - _steps.Values.Count(static step => step is RecoveryStep.Restoring or RecoveryStep.Starting));

    /// <summary>What is to be done now; it counts as begun.</summary>
    public IReadOnlyList<RecoveryCommand> TakeCommands()
    {
        var commands = new List<RecoveryCommand>();
        foreach (var machine in _machines.Where(machine => _steps[machine] == RecoveryStep.Restored && _blockers.ContainsKey(machine) && _toldToStayOff.Add(machine)))
        {
            commands.Add(new RecoveryCommand(RecoveryOrderKind.LeaveOff, machine, _blockers[machine]));
        }
        foreach (var machine in _machines.Where(MayBegin).OrderByDescending(RankOf).ThenBy(static machine => machine).Take(FreeSlots).ToList())
        {
            var kind = _steps[machine] == RecoveryStep.Waiting ? RecoveryOrderKind.Restore : RecoveryOrderKind.Start;
            _steps[machine] = kind == RecoveryOrderKind.Restore ? RecoveryStep.Restoring : RecoveryStep.Starting;
            commands.Add(new RecoveryCommand(kind, machine));
        }
        return commands;
    }

    /// <summary>Its disks are whole.</summary>
    public void NoteRestored(Id16 machine) => Enter(machine, RecoveryStep.Restoring, RecoveryStep.Restored);

    /// <summary>Its probe succeeded.</summary>
    public void NoteReady(Id16 machine) => Enter(machine, RecoveryStep.Starting, RecoveryStep.Ready);

    /// <summary>It stays off, as it was told to, with whole disks.</summary>
    public void NoteLeftOff(Id16 machine) => Enter(machine, RecoveryStep.Restored, RecoveryStep.NotStarted);

    /// <summary>Its restore, its start or its probe failed.</summary>
    public void NoteFailed(Id16 machine)
    {
        Check.That(_steps[machine] is not (RecoveryStep.Ready or RecoveryStep.Failed or RecoveryStep.NotStarted));
        _steps[machine] = RecoveryStep.Failed;
        Block(machine);
    }

    private void Enter(Id16 machine, RecoveryStep from, RecoveryStep to)
    {
        Check.That(_steps[machine] == from);
        _steps[machine] = to;
    }

    private bool MayBegin(Id16 machine) => _steps[machine] switch
    {
        RecoveryStep.Waiting => !_blockers.ContainsKey(machine),
        RecoveryStep.Restored => _graph.NeedsOf(machine).All(needed => _steps[needed] == RecoveryStep.Ready),
        _ => false,
    };

    private double RankOf(Id16 machine) => _steps[machine] == RecoveryStep.Waiting ? _fromRestore[machine] : _fromStart[machine];

    // What was not begun is not begun any more; what is being restored becomes whole and stays off.
    private void Block(Id16 failed)
    {
        foreach (var machine in _dependents[failed].Where(machine => _blockers.TryAdd(machine, failed)))
        {
            if (_steps[machine] == RecoveryStep.Waiting)
            {
                _steps[machine] = RecoveryStep.NotStarted;
            }
            Block(machine);
        }
    }
}
