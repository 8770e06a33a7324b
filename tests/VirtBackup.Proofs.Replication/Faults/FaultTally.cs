using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.Replication.Faults;

/// <summary>What the trials did: faults that come when nothing is pulled any more prove nothing.</summary>
internal sealed class FaultTally
{
    private const int DueMin = 10;

    public int CutsDue { get; set; }

    /// <summary>While something was pulled over the link.</summary>
    public int Cuts { get; set; }

    public int KillsDue { get; set; }

    /// <summary>While the controller pulled, or was pulled from.</summary>
    public int Kills { get; set; }

    public int Verified { get; set; }

    public int Restored { get; set; }

    public long MissingBytes { get; set; }

    public long WireBytes { get; set; }

    /// <summary>Of what was missing, in the trials without a fault.</summary>
    public double WorstShare { get; set; }

    /// <summary>The longest time from the last fault to convergence.</summary>
    public TimeSpan Settled { get; set; }

    public void Require()
    {
        if (CutsDue >= DueMin && 3 * Cuts < CutsDue) throw new RefutedException($"only {Cuts} of {CutsDue} cuts came while something was pulled: too few to prove anything");
        if (KillsDue >= DueMin && 3 * Kills < KillsDue) throw new RefutedException($"only {Kills} of {KillsDue} kills came while something was pulled: too few to prove anything");
    }

    public override string ToString() =>
        $"cuts={Cuts}/{CutsDue} kills={Kills}/{KillsDue} verified={Verified} restored={Restored} missing={MissingBytes >> 20}MiB wire={WireBytes >> 20}MiB "
        + FormattableString.Invariant($"worst_without_faults={WorstShare:0.0000} settled_max={Settled.TotalSeconds:0.0}s");
}
