using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Views;

internal sealed record AgentView(
    string Name, bool Connected, bool Revoked, string? Version, string? HostName, string? HypervisorKind, DateTimeOffset? EnrollTime,
    DateTimeOffset? LastSeenTime, DateTimeOffset? CertificateExpireTime, uint VirtualMachines)
{
    public static AgentView Of(Agent agent) => new(
        agent.Name, agent.Connected, agent.Revoked, WireNames.TextOrNull(agent.Version), WireNames.TextOrNull(agent.HostName),
        WireNames.TextOrNull(agent.HypervisorKind), WireNames.Of(agent.EnrollTime), WireNames.Of(agent.LastSeenTime),
        WireNames.Of(agent.CertificateExpireTime), agent.VirtualMachines);

    /// <summary>One word: revoked, connected or offline.</summary>
    public string State => Revoked ? "revoked" : Connected ? "connected" : "offline";
}
