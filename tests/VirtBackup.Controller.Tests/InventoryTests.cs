using Microsoft.Extensions.Logging.Abstractions;
using VirtBackup.Controller.Control;
using VirtBackup.Controller.Migrations;
using VirtBackup.Controller.Tests.Fixtures;
using VirtBackup.Core;
using VirtBackup.Protocol.Agent.V1;
using Task = System.Threading.Tasks.Task;

namespace VirtBackup.Controller.Tests;

public sealed class InventoryTests
{
    [Fact]
    public async Task An_inventory_is_not_written_behind_a_change_of_hosts_that_it_was_judged_before()
    {
        await using var world = await World.CreateAsync();
        var source = await world.EnrollAsync("source");
        await world.EnrollAsync("target");
        var catalog = world.Role.Catalog;
        using var owners = new MigrationOwners();
        owners.Set(source.VmId, "source");
        var intake = new InventoryIntake(catalog.Agents, catalog.Machines, world.Role.Connections, owners, NullLogger<InventoryIntake>.Instance);
        var inventory = new Inventory { HostName = "t", HypervisorKind = "qemu" };
        inventory.VirtualMachines.Add(new VirtualMachine { VmId = source.VmId.ToString(), Name = source.VmName, Running = true });

        Task taking;
        using (await owners.EnterAsync(World.Token))
        {
            taking = intake.ReplaceAsync(new Caller(Identity.PeerRole.Agent, "target", Id16.Empty, Id16.Empty), inventory, World.Token).AsTask();
            await Task.Delay(200, World.Token);
            Assert.False(taking.IsCompleted);
            owners.Set(source.VmId, "target");
            await catalog.Machines.MoveAsync(source.VmId, "target", running: true, World.Token);
        }
        await taking;
        var machine = await catalog.Machines.FindAsync(source.VmId, World.Token);
        Assert.True(machine is { Agent: "target", Present: true, Running: true }, $"{machine}");
    }
}
