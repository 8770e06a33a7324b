using VirtBackup.Core;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Controller.Replication;

/// <summary>What a rule of replication may say.</summary>
internal static class RuleLimits
{
    public const uint DefaultStreams = 4;

    private const uint StreamsMax = 16;
    private const uint EveryMinutesMax = 525_600;
    private const uint LockDaysMax = 3650;
    private const int MachinesMax = 1000;
    private const int NameCharsMax = 256;
    private const int WindowsMax = 32;

    /// <summary>The rule for a peer that has none: all that it lets this site read.</summary>
    public static ReplicationRule DefaultFor(string peer) => new() { Peer = peer, Streams = DefaultStreams };

    /// <summary>The rule with its defaults written out.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.InvalidArgument"/>.</exception>
    public static ReplicationRule Validate(ReplicationRule rule)
    {
        if (rule.Streams > StreamsMax || rule.EveryMinutes > EveryMinutesMax || rule.LockDays > LockDaysMax)
        {
            throw new FaultException(
                FaultReason.InvalidArgument, $"A rule has at most {StreamsMax} streams, an interval of at most {EveryMinutesMax} minutes, and locks for at most {LockDaysMax} days.");
        }
        if (rule.Vms.Count > MachinesMax || rule.Windows.Count > WindowsMax)
        {
            throw new FaultException(FaultReason.InvalidArgument, $"A rule names at most {MachinesMax} machines and {WindowsMax} windows of the bandwidth limit.");
        }
        foreach (var machine in rule.Vms)
        {
            _ = machine.Length > 0 ? WireText.Bounded(machine, NameCharsMax, "name of a machine") : throw new FaultException(FaultReason.InvalidArgument, "Say which machine is meant.");
        }
        foreach (var window in rule.Windows)
        {
            RateLimit.Validate(window);
        }
        var whole = rule.Clone();
        whole.Streams = rule.Streams == 0 ? DefaultStreams : rule.Streams;
        return whole;
    }
}
