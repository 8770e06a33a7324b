using System.Text.Json;
using VirtBackup.Core;
using VirtBackup.Hypervisors.Images;

namespace VirtBackup.Hypervisors.Qemu;

/// <summary>Describes the stored machine and the restored one in the same way: the latter by asking it, or by what lies on disk.</summary>
internal sealed class RestoredDescription(QemuDriverContext context, RestorePlan plan, RestoreRequest request)
{
    /// <summary>A machine that runs is complete: from then on neither a failure nor a cancellation of the description counts.</summary>
    public async Task<RestoredMachine> AddAsync(RestoredMachine machine, MachineLauncher launcher, CancellationToken cancellationToken)
    {
        var running = machine.Running ? await AskAsync(CancellationToken.None) : null;
        var stored = ArgvDocument.Read(request.Configuration.Native.Span);
        return machine with
        {
            CapturedDescription = MachineDescription.Write(stored, [.. CapturedDisks(stored, all: running is not null)], running is null ? null : request.Configuration.Neutral),
            Description = running ?? await ReadAsync(launcher, inspect: !machine.Running, cancellationToken),
        };
    }

    // What lies on disk tells nothing of disks that were not captured; they stay options of the command line.
    private IEnumerable<DescribedDisk> CapturedDisks(ArgvDocument stored, bool all)
    {
        var lengths = LengthsOf(request.Configuration.Neutral);
        return stored.Disks.Where(disk => all || plan.Images.Any(image => image.DiskName == disk.Name)).Select(disk => new DescribedDisk(disk.Name, Path.GetFullPath(disk.File, stored.WorkingDirectory), disk.Format, lengths.TryGetValue(disk.Name, out var length) ? length : null));
    }

    private async Task<JsonElement?> AskAsync(CancellationToken cancellationToken)
    {
        try
        {
            var machine = new QemuMachine(plan.Launch.Uuid, request.Name, plan.Launch.QmpSocket, plan.Launch.GuestAgentSocket);
            await using var qmp = await context.OpenAsync(machine, cancellationToken);
            var disks = await BlockInventory.ReadAsync(qmp, machine.Uuid, new HashSet<string>(), cancellationToken);
            var configuration = await MachineDescriber.DescribeAsync(qmp, machine, disks, context.Options.StateFolder, cancellationToken);
            var document = ArgvDocument.Read(configuration.Native.Span);
            return MachineDescription.Write(document,
                [.. disks.Select(disk => new DescribedDisk(disk.Summary.Name, Path.GetFullPath(disk.File, document.WorkingDirectory), disk.Summary.Format, disk.Summary.LengthBytes))],
                configuration.Neutral);
        }
        catch (FaultException)
        {
            // The machine's monitor is already somebody else's: it is described as it was started.
            return null;
        }
    }

    private async Task<JsonElement> ReadAsync(MachineLauncher launcher, bool inspect, CancellationToken cancellationToken)
    {
        var inspector = new ImageInspector(context.Options.QemuImg, context.Processes);
        var disks = new List<DescribedDisk>();
        foreach (var image in plan.Images)
        {
            disks.Add(new DescribedDisk(image.DiskName, image.NewFile, image.Format,
                inspect ? await inspector.ReadLengthAsync(new MachineImage(image.DiskName, image.NewFile, image.Format), cancellationToken) : null));
        }
        return MachineDescription.Write(launcher.HasRecord ? launcher.ReadRecord() : plan.Document, disks, null);
    }

    private static Dictionary<string, long> LengthsOf(JsonElement neutral)
    {
        var lengths = new Dictionary<string, long>(StringComparer.Ordinal);
        if (neutral.Find("disks") is { ValueKind: JsonValueKind.Array } disks)
        {
            foreach (var disk in disks.EnumerateArray())
            {
                if (disk.FindText("name") is { } name && disk.Find("lengthBytes") is { ValueKind: JsonValueKind.Number } length && length.TryGetInt64(out var bytes))
                {
                    lengths[name] = bytes;
                }
            }
        }
        return lengths;
    }
}
