using Google.Protobuf;
using Google.Protobuf.Reflection;
using VirtBackup.Catalog;
using VirtBackup.Core;
using VirtBackup.Protocol.Agent.V1;
using VirtBackup.Protocol.Common.V1;

namespace VirtBackup.Controller.Control;

/// <summary>
/// Which options of jobs an agent acts on, as its hello said. An older one would read over the others without a word, and restore
/// into a folder what was to replace a machine.
/// </summary>
/// <param name="version">Of the agent, for people.</param>
/// <param name="controllerVersion">Agents of this version know all that this controller can be asked for.</param>
internal sealed class AgentAbilities(string agent, string version, AgentCapabilities? told, string controllerVersion)
{
    // An agent that knows no samples takes none.
    private static readonly (MessageDescriptor, int) Harmless = (RestoreOptions.Descriptor, RestoreOptions.SkipSampleFieldNumber);

    // What agents know that do not tell.
    private const uint RestoreOptionsFirst = 6, BackupOptionsFirst = 5;

    private readonly uint _restore = told?.RestoreOptions is { } restore and > 0 ? restore : RestoreOptionsFirst;
    private readonly uint _backup = told?.BackupOptions is { } backup and > 0 ? backup : BackupOptionsFirst;

    /// <summary>Why the agent must not be given the job; null: it may be.</summary>
    public FaultException? Refuse(JobRow job) => job.Kind switch
    {
        JobKind.Restore when job.Start.Length > 0 && told?.StartOrder != true => new FaultException(FaultReason.Unsupported,
            $"The agent '{agent}' (version {(version.Length > 0 ? version : "unknown")}) cannot hold back the start of a machine until others are ready. Update the agent to version {controllerVersion}, that of this controller, or choose another one."),
        JobKind.Restore or JobKind.RestoreCheck => Refuse(job.Options, RestoreOptions.Descriptor, _restore),
        JobKind.Backup or JobKind.BackupPlan => Refuse(job.Options, BackupOptions.Descriptor, _backup),
        JobKind.MoveStorage or JobKind.MoveStorageCheck when told is not { StorageMove: true } => Unable("move disks of running machines"),
        JobKind.StopMachine or JobKind.StartMachine or JobKind.RetireMachine when told is not { MachineControl: true } => Unable("stop, start and retire machines"),
        _ => null,
    };

    private FaultException Unable(string what) => new(FaultReason.Unsupported,
        $"The agent '{agent}' (version {(version.Length > 0 ? version : "unknown")}) cannot {what}. Update it to version {controllerVersion}, that of this controller.");

    // On the wire there are only fields that say something.
    private FaultException? Refuse(byte[] options, MessageDescriptor descriptor, uint known)
    {
        var unknown = new SortedSet<int>();
        using var input = new CodedInputStream(options);
        for (var tag = input.ReadTag(); tag != 0; tag = input.ReadTag())
        {
            if (WireFormat.GetTagFieldNumber(tag) is var field && field > known && (descriptor, field) != Harmless)
            {
                unknown.Add(field);
            }
            input.SkipLastField();
        }
        return unknown.Count == 0 ? null : new FaultException(FaultReason.Unsupported,
            $"The agent '{agent}' (version {(version.Length > 0 ? version : "unknown")}) does not know {string.Join(", ", unknown.Select(field => descriptor.FindFieldByNumber(field)?.Name ?? $"option {field}"))}, which was asked for, and would do without. "
            + $"Update the agent to version {controllerVersion}, that of this controller, or choose another one.");
    }
}
