using Google.Protobuf.Collections;
using VirtBackup.Core;
using VirtBackup.Protocol.Agent.V1;

namespace VirtBackup.Agent.Control;

/// <summary>Holds what an agent has to tell to the control plane's largest message.</summary>
internal static class ControlMessages
{
    // The frames around a part are in the rest.
    private const int BytesMax = Limits.ControlMessageBytesMax - 1024;

    /// <summary>The inventory in parts, none too long, at least one.</summary>
    public static IReadOnlyList<Inventory> Split(Inventory inventory)
    {
        var parts = new List<Inventory> { NewPart(inventory) };
        var bytes = parts[0].CalculateSize();
        foreach (var machine in inventory.VirtualMachines.Select(WithinBounds))
        {
            var more = machine.CalculateSize() + 8;
            if (bytes + more > BytesMax)
            {
                parts[^1].More = true;
                parts.Add(NewPart(inventory));
                bytes = parts[^1].CalculateSize();
            }
            parts[^1].VirtualMachines.Add(machine);
            bytes += more;
        }
        return parts;
    }

    /// <summary>Shortens lists that are for people only, from their end, until the report is not too long.</summary>
    public static void Fit(JobReport report)
    {
        switch (report.ResultCase)
        {
            case JobReport.ResultOneofCase.Backup:
                Cut(report, report.Backup.Disks);
                break;
            case JobReport.ResultOneofCase.PlanBackup:
                Cut(report, report.PlanBackup.Disks);
                break;
            case JobReport.ResultOneofCase.Restore:
                Cut(report, report.Restore.Differences);
                Cut(report, report.Restore.Details);
                break;
            case JobReport.ResultOneofCase.CheckRestore:
                Cut(report, report.CheckRestore.Findings);
                break;
        }
    }

    private static void Cut<T>(JobReport report, RepeatedField<T> list)
    {
        while (list.Count > 0 && report.CalculateSize() > BytesMax)
        {
            list.RemoveAt(list.Count - 1);
        }
    }

    private static VirtualMachine WithinBounds(VirtualMachine machine)
    {
        if (machine.CalculateSize() <= BytesMax / 2)
        {
            return machine;
        }
        var bare = machine.Clone();
        bare.Problem = $"It has {machine.Disks.Count} disks, whose descriptions are too long to be listed. {(machine.Problem.Length <= 1024 ? machine.Problem : machine.Problem[..1024])}";
        bare.Disks.Clear();
        return bare;
    }

    private static Inventory NewPart(Inventory inventory) => new() { HypervisorKind = inventory.HypervisorKind, HostName = inventory.HostName };
}
