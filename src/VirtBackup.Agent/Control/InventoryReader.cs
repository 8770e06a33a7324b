using VirtBackup.Hypervisors;
using VirtBackup.Protocol.Agent.V1;

namespace VirtBackup.Agent.Control;

/// <summary>Describes what this host has.</summary>
internal sealed class InventoryReader(IReadOnlyList<IHypervisor> hypervisors, string hostName)
{
    private const int MachinesMax = 1024;

    public async Task<Inventory> ReadAsync(CancellationToken cancellationToken)
    {
        var inventory = new Inventory { HostName = hostName, HypervisorKind = string.Join("+", hypervisors.Select(hypervisor => hypervisor.Kind)) };
        foreach (var hypervisor in hypervisors)
        {
            foreach (var machine in (await hypervisor.ListMachinesAsync(cancellationToken)).Take(MachinesMax - inventory.VirtualMachines.Count))
            {
                var message = new VirtualMachine { VmId = machine.Id.ToString(), Name = machine.Name, Running = machine.Running, Problem = machine.Problem ?? "" };
                message.Disks.AddRange(machine.Disks.Select(disk => new VirtualDisk
                {
                    DiskId = disk.Id.ToString(),
                    Name = disk.Name,
                    LengthBytes = (ulong)disk.LengthBytes,
                    Format = disk.Format,
                    SkipReason = disk.SkipReason ?? "",
                }));
                inventory.VirtualMachines.Add(message);
            }
        }
        return inventory;
    }
}
