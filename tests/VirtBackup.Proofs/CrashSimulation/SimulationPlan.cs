using VirtBackup.Repository.Collection;

namespace VirtBackup.Proofs.CrashSimulation;

/// <summary>What happens at once in one step.</summary>
internal enum Deed
{
    BackUp,
    Restore,
    Forget,
    Recall,
    Verify,
    Collect,
    Rebuild,
    AgentDeath,
    Scrub,

    /// <summary>Last, because afterwards nobody knows what is visible until it is over.</summary>
    Expire,
}

/// <summary>One step: its deeds run beside each other.</summary>
/// <param name="Deeds">What is done, each for a machine or point drawn then.</param>
/// <param name="BadWeather">Messages are late and lost, streams are cut.</param>
/// <param name="Passes">Virtual time that passes before it.</param>
internal sealed record SimulationStep(IReadOnlyList<Deed> Deeds, bool BadWeather, TimeSpan Passes);

/// <summary>The failure of the power, and what is lost with it.</summary>
/// <param name="Step">In which step it is due, or the first after it that gets so far.</param>
/// <param name="After">Operations of that step before it.</param>
/// <param name="Seed">What becomes of everything that was not flushed.</param>
/// <param name="ProcessOnly">Only the process dies: what the operating system was given stays.</param>
/// <param name="LoseIndex">The index database is gone.</param>
/// <param name="LoseCatalog">The catalog database is gone, and with it all jobs.</param>
/// <param name="AgentsGoOn">Which agents wait for the controller; the others die with it.</param>
/// <param name="AgainAt">A second failure, while the controller starts: after so many operations.</param>
/// <param name="InHarm">Not in a step but while damage is repaired.</param>
/// <param name="InStage">Not in a step but in this stage of the collector, whenever it has done so many operations.</param>
internal sealed record SimulatedCrash(
    int Step, long After, int Seed, bool ProcessOnly, bool LoseIndex, bool LoseCatalog, IReadOnlyList<bool> AgentsGoOn, long? AgainAt, bool InHarm, CollectionStage? InStage);

/// <summary>All that a seed decides beforehand.</summary>
internal sealed record SimulationPlan(IReadOnlyList<SimulationStep> Steps, SimulatedCrash Crash, int RepackDeadPercent, Expiry Expiry, bool Harm)
{
    private const int StepsMin = 3;
    private const int StepsMax = 5;
    private const int DeedsMax = 3;

    /// <summary>What users get.</summary>
    private const int RepackDeadPercentMax = 30;

    /// <summary>Most deeds take fewer operations than 2 to this power.</summary>
    private const int OperationsLog2Max = 8;

    private const int StageOperationsLog2Max = 3;
    private const int HarmOperationsLog2Max = 6;
    private const int HarmOneIn = 3;
    private const int InHarmOneIn = 8;

    private static readonly IReadOnlyList<CollectionStage> Stages = [.. Enum.GetValues<CollectionStage>().Where(stage => stage != CollectionStage.None)];

    private static readonly (Deed Deed, int Weight)[] Weights =
    [
        (Deed.BackUp, 8), (Deed.Restore, 2), (Deed.Forget, 4), (Deed.Recall, 2), (Deed.Verify, 1), (Deed.Collect, 5), (Deed.Rebuild, 2), (Deed.AgentDeath, 2), (Deed.Scrub, 2), (Deed.Expire, 2),
    ];

    public static SimulationPlan Draw(Random random, int hosts)
    {
        // The first step gives every machine its first point.
        var steps = new List<SimulationStep> { new([.. Enumerable.Repeat(Deed.BackUp, hosts)], random.Next(4) == 0, TimeSpan.Zero) };
        for (var count = random.Next(StepsMin, StepsMax + 1); steps.Count < count;)
        {
            var deeds = Enumerable.Range(0, random.Next(1, DeedsMax + 1)).Select(_ => DrawDeed(random)).Order().ToList();
            if (steps.Count <= 2 && !deeds.Contains(Deed.BackUp))
            {
                deeds.Add(Deed.BackUp);
            }
            if (steps.Count == 2 && !deeds.Contains(Deed.Forget))
            {
                deeds.Add(Deed.Forget);
            }
            steps.Add(new SimulationStep(deeds, random.Next(3) == 0, TimeSpan.FromMinutes(random.Next(1, 3000))));
        }
        if (!steps.Exists(step => step.Deeds.Contains(Deed.Collect)))
        {
            var at = random.Next(1, steps.Count);
            steps[at] = steps[at] with { Deeds = [.. steps[at].Deeds, Deed.Collect] };
        }
        var crash = DrawCrash(random, steps.Count, hosts);
        var repackDeadPercent = random.Next(2) == 0 ? RepackDeadPercentMax : random.Next(1, RepackDeadPercentMax);
        return new SimulationPlan(steps, crash, repackDeadPercent, new Expiry(random.Next(1, 4), random.Next(3)), crash.InHarm || random.Next(HarmOneIn) == 0);
    }

    private static SimulatedCrash DrawCrash(Random random, int steps, int hosts)
    {
        var loseCatalog = random.Next(6) == 0;
        var inHarm = random.Next(InHarmOneIn) == 0;
        var stage = !inHarm && random.Next(3) == 0 ? Stages[random.Next(Stages.Count)] : (CollectionStage?)null;
        return new SimulatedCrash(
            random.Next(steps),
            random.Next(1 << random.Next(1, stage is null && !inHarm ? OperationsLog2Max + 1 : inHarm ? HarmOperationsLog2Max + 1 : StageOperationsLog2Max + 1)),
            random.Next(),
            random.Next(5) == 0,
            random.Next(4) == 0,
            loseCatalog,
            [.. Enumerable.Range(0, hosts).Select(_ => !loseCatalog && random.Next(2) == 0)],
            random.Next(4) == 0 ? random.Next(16) : null,
            inHarm,
            stage);
    }

    private static Deed DrawDeed(Random random)
    {
        var left = random.Next(Weights.Sum(choice => choice.Weight));
        return Weights.First(choice => (left -= choice.Weight) < 0).Deed;
    }
}
