using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.Migration;

/// <summary>Who is killed, or falls silent, while a machine's disks are mirrored.</summary>
internal enum MirrorVictim
{
    Nobody,
    Agent,
    Controller,
    Both,
    Link,
    Machine,
    Order,
    Storage,
}

/// <summary>One trial of a live mirror, decided by seed and number.</summary>
/// <param name="AtChangeOver">It happens when the machine is about to change over; otherwise so long after the order as <paramref name="Delay"/> says.</param>
/// <param name="Absence">For how long the victim is away.</param>
internal sealed record MirrorPlan(MirrorVictim Victim, bool AtChangeOver, TimeSpan Delay, TimeSpan Absence, int MebibytesPerSecond)
{
    /// <summary>Of each of the disks that move.</summary>
    public const int DiskMebibytes = 12;

    private const int Plan = 11;

    public static MirrorPlan Of(ProofOptions options, int trial)
    {
        var random = options.RandomOf(trial, Plan);
        var victims = Enum.GetValues<MirrorVictim>();
        // The dangerous ones first in a run of one trial: whoever holds the guest, at its change-over.
        var victim = trial == 0 ? MirrorVictim.Agent : victims[random.Next(victims.Length)];
        var atChangeOver = trial == 0 || (victim is not (MirrorVictim.Order or MirrorVictim.Storage) && random.Next(2) == 0);
        var pace = random.Next(8, 48);
        // Within the time that copying takes: what comes behind it strikes nothing.
        var copying = 1000 * DiskMebibytes * MirroredMachine.Formats.Count / pace;
        return new MirrorPlan(victim, atChangeOver, TimeSpan.FromMilliseconds(random.Next(atChangeOver ? 60 : copying)), TimeSpan.FromMilliseconds(random.Next(2000)), pace);
    }

    public override string ToString() =>
        $"live mirror, {Victim} {(AtChangeOver ? "at the change-over" : "after the order")} + {Delay.TotalMilliseconds:0} ms for {Absence.TotalMilliseconds:0} ms, {MebibytesPerSecond} MiB/s";
}
