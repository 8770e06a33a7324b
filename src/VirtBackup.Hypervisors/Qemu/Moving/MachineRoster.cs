using VirtBackup.Core;
using VirtBackup.Hypervisors.Moving;

namespace VirtBackup.Hypervisors.Qemu.Moving;

/// <summary>Which machines the driver serves: those of its configuration and those that came to this host, without those that left it.</summary>
internal sealed class MachineRoster(IReadOnlyList<QemuMachine> configured, MovingRecords records)
{
    public IReadOnlyList<QemuMachine> List()
    {
        var known = configured.Select(static machine => machine.Uuid).Concat(records.ListAdopted()).Distinct();
        return [.. known.Select(TryFind).OfType<QemuMachine>()];
    }

    /// <summary>One that the driver serves; null: it serves no such machine.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.FailedPrecondition"/>: what is recorded of it cannot be read.</exception>
    public QemuMachine? Find(Id16 machine) => records.FindRetired(machine) is null ? FindAny(machine) : null;

    // A record that cannot be read takes its own machine out of service and no other. Whoever wants to use that one is told.
    private QemuMachine? TryFind(Id16 machine)
    {
        try
        {
            return Find(machine);
        }
        catch (FaultException)
        {
            return null;
        }
    }

    /// <summary>As configured or adopted, retired or not; null: the host has no such machine.</summary>
    public QemuMachine? FindAny(Id16 machine) =>
        records.FindAdopted(machine) is { Complete: true } adopted ? ToMachine(adopted) : configured.FirstOrDefault(candidate => candidate.Uuid == machine);

    public bool Knows(Id16 machine) => FindAny(machine) is not null || records.FindAdopted(machine) is not null || records.FindRetired(machine) is not null;

    private static QemuMachine ToMachine(AdoptedMachine machine) => new(Id16.Parse(machine.Machine), machine.Name, machine.QmpSocket, machine.GuestAgentSocket);
}
