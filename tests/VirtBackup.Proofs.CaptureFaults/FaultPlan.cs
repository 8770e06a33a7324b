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

/// <summary>Where a restore goes.</summary>
internal enum Onto
{
    Folder,
    InPlace,
    Replace,
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

    /// <summary>Of a machine that is off; the daemon has to be told of a replacement.</summary>
    private static readonly Fault[] OfStillMachines = [Fault.AgentKilled, Fault.AgentKilled, Fault.ControllerKilled, Fault.LibvirtdKilled];

    public Onto Onto { get; private init; }

    public static FaultPlan Of(ProofOptions options, int trial)
    {
        var random = options.RandomOf(trial, 0);
        // In turn, so that few trials have met both.
        var isLibvirt = trial % 2 == 1;
        var isRestore = random.Next(5) == 0;
        var faults = isRestore ? OfRestores : [.. Enum.GetValues<Fault>().Where(fault => isLibvirt || fault != Fault.LibvirtdKilled)];
        var plan = new FaultPlan(isLibvirt, isRestore, faults[random.Next(faults.Length)], TimeSpan.FromMilliseconds(DelayMsMax * Math.Pow(random.NextDouble(), 1.5)), random.Next());
        // Most restores under libvirt are onto a machine that is there: it has the most to lose.
        return !isLibvirt || !isRestore || random.Next(4) == 0 ? plan
            : plan with { Onto = random.Next(3) == 0 ? Onto.InPlace : Onto.Replace, Fault = OfStillMachines[random.Next(OfStillMachines.Length)] };
    }

    public override string ToString() =>
        $"{(IsLibvirt ? "libvirt" : "qmp")}, {Fault} {Delay.TotalMilliseconds:0} ms after a {(IsRestore ? "restore" : "backup")}{(Onto == Onto.Folder ? "" : $" ({Onto})")} was ordered";
}
