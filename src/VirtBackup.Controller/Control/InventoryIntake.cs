using Microsoft.Extensions.Logging;
using VirtBackup.Catalog;
using VirtBackup.Controller.Migrations;
using VirtBackup.Core;
using VirtBackup.Protocol.Agent.V1;

namespace VirtBackup.Controller.Control;

/// <summary>Takes agents' inventories into the catalog.</summary>
public sealed partial class InventoryIntake(AgentRecords agents, MachineRecords machines, AgentConnections connections, MigrationOwners owners, ILogger<InventoryIntake> logger)
{
    private const int NameCharsMax = 255;
    private const int TextCharsMax = 4096;

    /// <exception cref="FaultException"><see cref="FaultReason.InvalidArgument"/>: a bound is exceeded or a name is malformed.</exception>
    public async ValueTask ReplaceAsync(Caller caller, Inventory inventory, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(caller);
        ArgumentNullException.ThrowIfNull(inventory);
        using var turn = await owners.EnterAsync(cancellationToken);
        var rows = new Dictionary<Id16, MachineRow>();
        foreach (var machine in inventory.VirtualMachines)
        {
            var row = ToRow(caller.Name, machine);
            if (await IsElsewhereAsync(row, cancellationToken))
            {
                continue;
            }
            if (!rows.TryAdd(row.VmId, row))
            {
                throw new FaultException(FaultReason.InvalidArgument, $"The inventory names the virtual machine {row.VmId} twice.");
            }
        }
        await agents.SetHostAsync(
            caller.Name, WireText.Bounded(inventory.HostName, NameCharsMax, "host name"), WireText.Bounded(inventory.HypervisorKind, 32, "hypervisor kind"), cancellationToken);
        await machines.ReplaceAsync(caller.Name, rows.Values, cancellationToken);
    }

    /// <summary>A machine moves when its old host no longer has it; while that one is there and says it has it, it does not. A migration says itself who has it.</summary>
    private async ValueTask<bool> IsElsewhereAsync(MachineRow row, CancellationToken cancellationToken)
    {
        if (owners.Find(row.VmId) is { } owner)
        {
            return owner != row.Agent;
        }
        var known = await machines.FindAsync(row.VmId, cancellationToken);
        if (known is not { Present: true } || known.Agent == row.Agent || !connections.IsConnected(known.Agent))
        {
            return false;
        }
        LogElsewhere(row.Agent, row.Name, row.VmId, known.Agent);
        return true;
    }

    private static MachineRow ToRow(string agent, VirtualMachine machine)
    {
        if (machine.Disks.Count > Limits.StreamsPerPointMax)
        {
            throw new FaultException(FaultReason.InvalidArgument, $"A virtual machine has at most {Limits.StreamsPerPointMax} disks.");
        }
        return new MachineRow
        {
            VmId = WireText.ToId(machine.VmId, "id of a virtual machine"),
            Name = WireText.Bounded(machine.Name, NameCharsMax, "name of a virtual machine"),
            Agent = agent,
            Running = machine.Running,
            Problem = WireText.Shortened(machine.Problem, TextCharsMax),
            Present = true,
            Disks = [.. machine.Disks.Select(ToRow)],
        };
    }

    private static DiskRow ToRow(VirtualDisk disk) =>
        disk.LengthBytes <= (ulong)Limits.DiskBytesMax
            ? new DiskRow(
                WireText.ToIdOrEmpty(disk.DiskId, "id of a disk").ToString(), WireText.Bounded(disk.Name, NameCharsMax, "name of a disk"), (long)disk.LengthBytes,
                WireText.Bounded(disk.Format, 32, "format of a disk"), WireText.Shortened(disk.SkipReason, TextCharsMax))
            : throw new FaultException(FaultReason.InvalidArgument, $"A disk has at most {Limits.DiskBytesMax} bytes.");

    [LoggerMessage(Level = LogLevel.Warning, Message = "Agent {Agent} reports virtual machine {Name} ({VmId}), which connected agent {Owner} has: the report is ignored.")]
    private partial void LogElsewhere(string agent, string name, Id16 vmId, string owner);
}
