using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Views;

internal sealed record DiskView(string DiskId, string Name, ulong LengthBytes, string? Format, string? SkipReason)
{
    public static DiskView Of(Disk disk) => new(
        disk.DiskId, disk.Name, disk.LengthBytes, WireNames.TextOrNull(disk.Format), WireNames.TextOrNull(disk.SkipReason));
}

/// <param name="Peer">It was never here: its recovery points came from this peer; null: it is or was here.</param>
internal sealed record MachineView(
    string VmId, string Name, string? Agent, bool Running, bool Present, string? Problem, uint RecoveryPoints, DateTimeOffset? LastPointTime,
    IReadOnlyList<DiskView> Disks, MachineRetentionView Retention, uint FlaggedRuns, bool TrackingAlert, string? Peer)
{
    public static MachineView Of(VirtualMachine machine) => new(
        machine.VmId, machine.Name, WireNames.TextOrNull(machine.Agent), machine.Running, machine.Present, WireNames.TextOrNull(machine.Problem),
        machine.RecoveryPoints, WireNames.Of(machine.LastPointTime), [.. machine.Disks.Select(DiskView.Of)], MachineRetentionView.Of(machine.Retention), machine.FlaggedRuns,
        machine.TrackingAlert, WireNames.TextOrNull(machine.Peer));

    /// <summary>One word: elsewhere, gone, running or stopped.</summary>
    public string State => Present ? Running ? "running" : "stopped" : Peer is not null ? "elsewhere" : "gone";

    /// <summary>For people.</summary>
    public string Whereabouts => State == "elsewhere" ? $"at {Peer}" : State;
}
