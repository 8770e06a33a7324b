using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.CaptureFaults;

internal enum Fault
{
    AgentKilled,
    ControllerKilled,
    HypervisorKilled,
    LibvirtdKilled,
    GuestAgentKilled,
    FleeceFilled,
    LinkCut,
}

/// <summary>The choices of one trial, from the seed and the trial's number alone.</summary>
/// <param name="IsLibvirt">The machine that libvirt manages; otherwise the one reached over QMP.</param>
/// <param name="IsRestore">The fault hits a restore; otherwise a backup.</param>
/// <param name="Delay">Between the order and the fault.</param>
internal sealed record FaultPlan(bool IsLibvirt, bool IsRestore, Fault Fault, TimeSpan Delay, int Seed)
{
    /// <summary>Settling, cutting and half of the reading; then the rest, the commit and what follows.</summary>
    private const int DelayMsMax = 4000;

    private static readonly Fault[] OfRestores = [Fault.AgentKilled, Fault.ControllerKilled];

    public static FaultPlan Of(ProofOptions options, int trial)
    {
        var random = options.RandomOf(trial, 0);
        // In turn, so that few trials have met both.
        var isLibvirt = trial % 2 == 1;
        var isRestore = random.Next(5) == 0;
        var faults = isRestore ? OfRestores : [.. Enum.GetValues<Fault>().Where(fault => isLibvirt || fault != Fault.LibvirtdKilled)];
        return new FaultPlan(isLibvirt, isRestore, faults[random.Next(faults.Length)], TimeSpan.FromMilliseconds(DelayMsMax * Math.Pow(random.NextDouble(), 1.5)), random.Next());
    }

    public override string ToString() => $"{(IsLibvirt ? "libvirt" : "qmp")}, {Fault} {Delay.TotalMilliseconds:0} ms after a {(IsRestore ? "restore" : "backup")} was ordered";
}
