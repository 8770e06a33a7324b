using VirtBackup.Core;
using VirtBackup.Protocol.Agent.V1;

namespace VirtBackup.Controller.Groups;

/// <summary>
/// The rules by which the machines of a group are cut at one instant: nobody goes on from a step before all have reached it. Until all
/// are cut, whatever happens to one of them ends the cut for all; from then on each is for itself. Safe for concurrent use.
/// </summary>
internal sealed class GroupCut(IEnumerable<(Id16 JobId, string Name)> members, GroupCutLimits limits, TimeProvider time)
{
    private readonly Lock _lock = new();
    private readonly Dictionary<Id16, Member> _members = members.ToDictionary(static member => member.JobId, static member => new Member(member.Name));
    private long _stepSince = time.GetTimestamp();
    private long _cutFrom;
    private long _cutTo;

    /// <summary>The step that all have reached.</summary>
    public CutStep Passed { get; private set; }

    /// <summary>Why there is no cut, naming the machine; null: there is one, or may be.</summary>
    public string? Failure { get; private set; }

    /// <summary>All are cut.</summary>
    public bool IsMade => Failure is null && Passed == CutStep.Cut;

    /// <summary>Nothing more is waited for.</summary>
    public bool IsOver => Failure is not null || (IsMade && _members.Values.All(static member => member.Reached == CutStep.Released || member.IsLost));

    /// <summary>
    /// At most so long lay between the first cut and the last, once all are made: from before anybody was told to cut until all had said
    /// that they had.
    /// </summary>
    public TimeSpan Skew => time.GetElapsedTime(_cutFrom, _cutTo);

    /// <summary>Until <see cref="Expire"/> has something to do.</summary>
    public TimeSpan Left
    {
        get
        {
            lock (_lock)
            {
                var left = LimitOf(Passed + 1) - time.GetElapsedTime(_stepSince);
                return left > TimeSpan.Zero ? left : TimeSpan.Zero;
            }
        }
    }

    /// <summary>Whether the machine is known to have stood still while all were cut.</summary>
    public bool WasHeld(Id16 jobId) => _members.TryGetValue(jobId, out var member) && member is { Reached: CutStep.Released, Held: true };

    /// <summary>A machine has come to a step, and waits there. What was said before, or comes too late, is passed over.</summary>
    /// <returns>True: there is news for all.</returns>
    public bool Reach(Id16 jobId, CutStep step, bool held)
    {
        lock (_lock)
        {
            if (IsOver || !_members.TryGetValue(jobId, out var member) || member.IsLost || step <= member.Reached)
            {
                return false;
            }
            if (step > Passed + 1)
            {
                Fail($"{member.Name} went on before all were {StateOf(Passed + 1)}.");
                return true;
            }
            member.Reached = step;
            member.Held = held;
            if (step == CutStep.Cut)
            {
                _cutTo = time.GetTimestamp();
            }
            if (IsMade)
            {
                return IsOver;
            }
            var least = _members.Values.Min(static other => other.Reached);
            if (least <= Passed)
            {
                return false;
            }
            Passed = least;
            _stepSince = time.GetTimestamp();
            if (Passed == CutStep.Frozen)
            {
                _cutFrom = _stepSince;
            }
            return true;
        }
    }

    /// <summary>The machine's job is over.</summary>
    /// <returns>True: there is news for all.</returns>
    public bool Lose(Id16 jobId, string reason)
    {
        lock (_lock)
        {
            if (IsOver || !_members.TryGetValue(jobId, out var member))
            {
                return false;
            }
            if (IsMade)
            {
                member.IsLost = true;
                return IsOver;
            }
            var late = _members.Values.Where(other => other != member && other.Reached <= Passed).Select(static other => other.Name).ToList();
            Fail($"{member.Name}: {reason}{(late.Count > 0 && member.Reached > Passed ? $" Waited for: {string.Join(", ", late)}." : "")}");
            return true;
        }
    }

    /// <summary>
    /// The machine's agent cannot be reached. Until guests are touched it may come back; behind the cut it lets its guest go by itself.
    /// </summary>
    /// <returns>True: there is news for all.</returns>
    public bool Disconnect(Id16 jobId, string agent) =>
        Passed is >= CutStep.Ready and < CutStep.Cut && Lose(jobId, $"the connection to its agent '{agent}' was lost during the cut.");

    /// <summary>Ends what has lasted too long.</summary>
    public void Expire()
    {
        lock (_lock)
        {
            var limit = LimitOf(Passed + 1);
            if (IsOver || time.GetElapsedTime(_stepSince) < limit)
            {
                return;
            }
            var late = _members.Values.Where(member => member.Reached <= Passed).ToList();
            if (!IsMade)
            {
                Fail($"{string.Join(", ", late.Select(static member => member.Name))} {(late.Count == 1 ? "was" : "were")} not {StateOf(Passed + 1)} within {limit.TotalSeconds:0.#} s.");
                return;
            }
            late.ForEach(static member => member.IsLost = true);
        }
    }

    private void Fail(string reason) => Failure ??= reason;

    private TimeSpan LimitOf(CutStep step) => step switch
    {
        CutStep.Ready => limits.Ready,
        CutStep.Prepared => limits.Prepared,
        CutStep.Frozen => limits.Frozen,
        CutStep.Cut => limits.Cut,
        _ => limits.Released,
    };

    private static string StateOf(CutStep step) => step switch
    {
        CutStep.Ready => "ready to be cut",
        CutStep.Prepared => "through with the hook before the freeze",
        CutStep.Frozen => "frozen",
        _ => "cut",
    };

    private sealed class Member(string name)
    {
        public string Name => name;

        public CutStep Reached { get; set; }

        public bool Held { get; set; }

        public bool IsLost { get; set; }
    }
}
