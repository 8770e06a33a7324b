namespace VirtBackup.Proofs.KillBackup;

/// <summary>Who is killed.</summary>
internal enum Victims
{
    Agent,
    Controller,
    Both,
}

/// <summary>An event in the life of a backup that can be seen from outside, after which the kill comes.</summary>
internal enum Mark
{
    /// <summary>The operator has given the command.</summary>
    Asked,

    /// <summary>The capture's folder is there: the cut is being made.</summary>
    Cutting,

    /// <summary>QEMU exports the frozen disks.</summary>
    Reading,

    /// <summary>The agent has saved its base record: it asks for the commit next.</summary>
    Committing,

    /// <summary>The manifest has its name.</summary>
    Committed,
}

/// <summary>The choices of one trial, from the seed and the trial's number alone.</summary>
/// <param name="Delay">Between the mark and the kill.</param>
/// <param name="Paused">Whether the guest is paused, so that the content of the killed backup's point is known.</param>
/// <param name="AgentFirst">When both were killed: which one starts first.</param>
/// <param name="Writes">Shell lines of the guest: before the killed backup, and after it.</param>
/// <param name="EarlierPoint">Chooses one of the points known so far, in [0, 1).</param>
internal sealed record KillPlan(Victims Victims, Mark Mark, TimeSpan Delay, bool Paused, bool AgentFirst, (string Before, string After) Writes, double EarlierPoint)
{
    // Most trials aim at the cut and the commit, which last a moment each; small delays are the likely ones there.
    private static readonly (Mark Mark, int Share, int FromMs, int RangeMs, int Power)[] Moments =
    [
        (Mark.Asked, 2, 200, 700, 1),
        (Mark.Cutting, 3, 0, 300, 2),
        (Mark.Reading, 3, 0, 1800, 1),
        (Mark.Committing, 4, 0, 20, 2),
        (Mark.Committed, 4, 0, 60, 3),
    ];

    public static KillPlan Of(ulong seed, int trial)
    {
        var chance = new Chance(seed, trial);
        var pick = chance.Below(Moments.Sum(moment => moment.Share));
        var index = 0;
        while (pick >= Moments[index].Share) pick -= Moments[index++].Share;
        var (mark, _, from, range, power) = Moments[index];
        return new KillPlan(
            (Victims)chance.Below(3), mark, TimeSpan.FromMilliseconds(from + (range * Math.Pow(chance.Fraction(), power))),
            Paused: chance.Below(2) == 0, AgentFirst: chance.Below(2) == 0, (Write(chance), Write(chance)), chance.Fraction());
    }

    public override string ToString() =>
        $"kill {Victims.ToString().ToLowerInvariant()} {Delay.TotalMilliseconds:0.#} ms after '{Mark.ToString().ToLowerInvariant()}', guest {(Paused ? "paused" : "running")}";

    private static string Write(Chance chance) =>
        $"dd if=/dev/urandom of=/data/x{chance.Below(4)} bs=256k count={8 + chance.Below(9)} conv=notrunc 2>/dev/null; sync";
}

/// <summary>Numbers that a seed and a trial's number give (SplitMix64).</summary>
internal sealed class Chance(ulong seed, int trial)
{
    private ulong _state = seed + ((ulong)trial * 0xD1342543DE82EF95);

    /// <summary>A number from 0 to <paramref name="bound"/> − 1.</summary>
    public int Below(int bound)
    {
        var z = _state += 0x9E3779B97F4A7C15;
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
        return (int)((z ^ (z >> 31)) % (ulong)bound);
    }

    /// <summary>A number in [0, 1).</summary>
    public double Fraction() => Below(1 << 30) / (double)(1 << 30);
}
