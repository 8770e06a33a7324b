using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Views;

/// <param name="Stage">1: needs no other machine.</param>
/// <param name="Probe">In words: started, guest-agent, tcp HOST:PORT, http URL or command NAME.</param>
/// <param name="TimeoutSeconds">From the start until it counts as failed; null: it has no probe.</param>
internal sealed record DependencyView(string VmId, string Vm, uint Stage, IReadOnlyList<string> Needs, string Probe, double? TimeoutSeconds, double? IntervalSeconds)
{
    public static DependencyView Of(DependentMachine machine) => new(
        machine.VmId, machine.VmName, machine.Stage, [.. machine.Needs], machine.ProbeText, machine.Probe?.TimeoutMs / 1000.0, machine.Probe?.IntervalMs / 1000.0);
}

internal sealed record DependencyListView(IReadOnlyList<DependencyView> Machines)
{
    public static DependencyListView Of(GetDependenciesResponse response) => new([.. response.Machines.Select(DependencyView.Of)]);
}
