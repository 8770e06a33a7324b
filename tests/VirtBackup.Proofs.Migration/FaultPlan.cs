using System.Text.RegularExpressions;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.Migration;

/// <summary>Who is killed, or falls silent.</summary>
internal enum Victim
{
    Nobody,
    SourceAgent,
    TargetAgent,
    Controller,
    BothAgents,
    Everybody,
    SourceLink,
    TargetLink,
    ImageServers,
}

/// <summary>One trial, decided by seed and number.</summary>
/// <param name="Step">At which step it happens, counted; 0: at once.</param>
/// <param name="Delay">After the step was seen.</param>
/// <param name="Absence">For how long the victim is away.</param>
/// <param name="Writes">To the disk while the machine is copied.</param>
internal sealed partial record FaultPlan(Victim Victim, bool Cold, int Step, TimeSpan Delay, TimeSpan Absence, int Writes)
{
    private const int Plan = 1;

    /// <summary>Steps as they are shown, in their order; a migration that is faster than the look at it may pass one unseen.</summary>
    public static readonly string[] Steps =
        ["checking", "copying", "restoring", "round 1: copying", "round 1: applying", "stopping", "last copying", "last applying", "retiring", "starting", "removing the source's copy"];

    public static FaultPlan Of(ProofOptions options, int trial)
    {
        var random = options.RandomOf(trial, Plan);
        var victims = Enum.GetValues<Victim>();
        return new FaultPlan(
            victims[random.Next(trial == 0 ? 1 : 0, victims.Length)], random.Next(3) == 0, random.Next(Steps.Length), TimeSpan.FromMilliseconds(random.Next(600)),
            TimeSpan.FromMilliseconds(random.Next(3000)), random.Next(4, 20));
    }

    /// <summary>How far a migration at a step is; all later rounds are as the first, and on the way back all steps are passed.</summary>
    /// <exception cref="InvalidOperationException">There is no such step: the product has other ones than this proof.</exception>
    public static int IndexOf(string step)
    {
        if (step.StartsWith("going back: ", StringComparison.Ordinal)) return Steps.Length;
        var index = Array.IndexOf(Steps, Round().Replace(step, "round 1:"));
        return index >= 0 ? index : throw new InvalidOperationException($"A migration is at the step '{step}', which this proof does not know.");
    }

    [GeneratedRegex("^round [1-9][0-9]?:")]
    private static partial Regex Round();

    public override string ToString() => $"{(Cold ? "cold" : "warm")}, {Victim} at '{Steps[Step]}' + {Delay.TotalMilliseconds:0} ms for {Absence.TotalMilliseconds:0} ms, {Writes} writes";
}
