using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Views;

/// <summary>The controller and its repository; <see cref="FreeBytes"/> is null where nobody can tell.</summary>
internal sealed record StatusView(
    string Controller, string Version, DateTimeOffset? StartTime, uint AgentsConnected, uint AgentsEnrolled, uint VirtualMachines, ulong RecoveryPoints,
    uint JobsRunning, string RepositoryId, string RepositoryLocation, ulong StoredBytes, ulong? FreeBytes, ulong Chunks, ulong Packs, ulong Generation,
    DateTimeOffset? TrustedTime, bool TimeUnconfirmed, uint VirtualMachinesFlagged, uint VirtualMachinesSuspect)
{
    public static StatusView Of(string address, GetStatusResponse status) => new(
        address, status.Version, WireNames.Of(status.StartTime), status.AgentsConnected, status.AgentsEnrolled, status.VirtualMachines, status.RecoveryPoints,
        status.JobsRunning, status.RepositoryId, status.RepositoryLocation, status.StoredBytes, status.FreeBytesKnown ? status.FreeBytes : null,
        status.Chunks, status.Packs, status.Generation, WireNames.Of(status.TrustedTime), status.TimeUnconfirmed, status.VirtualMachinesFlagged,
        status.VirtualMachinesSuspect);
}
