using VirtBackup.Core;
using VirtBackup.Hypervisors.Moving;

namespace VirtBackup.Hypervisors.Qemu.Moving;

/// <summary>Which machines the driver serves: those of its configuration and those that came to this host, without those that left it.</summary>
internal sealed class MachineRoster(IReadOnlyList<QemuMachine> configured, MovingRecords records)
{
    public IReadOnlyList<QemuMachine> List()
    {
        var adopted = records.ListAdopted().Where(static machine => machine.Complete).Select(ToMachine).ToList();
        return [.. configured.Where(machine => adopted.TrueForAll(other => other.Uuid != machine.Uuid)).Concat(adopted).Where(machine => records.FindRetired(machine.Uuid) is null)];
    }

    /// <summary>As configured or adopted, retired or not; null: the host has no such machine.</summary>
    public QemuMachine? FindAny(Id16 machine) =>
        records.FindAdopted(machine) is { Complete: true } adopted ? ToMachine(adopted) : configured.FirstOrDefault(candidate => candidate.Uuid == machine);

    public bool Knows(Id16 machine) => FindAny(machine) is not null || records.FindAdopted(machine) is not null || records.FindRetired(machine) is not null;

    private static QemuMachine ToMachine(AdoptedMachine machine) => new(Id16.Parse(machine.Machine), machine.Name, machine.QmpSocket, machine.GuestAgentSocket);
}
