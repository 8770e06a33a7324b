using System.Text.Json;
using VirtBackup.Core;
using VirtBackup.Hypervisors.Images;
using VirtBackup.Hypervisors.Moving;

namespace VirtBackup.Hypervisors.Qemu.Moving;

/// <summary>What a move of a machine would do.</summary>
/// <param name="Nodes">The block node of each disk; empty when the machine is off.</param>
internal sealed record QemuMovePlan(StorageMovePlan Plan, IReadOnlyDictionary<string, string> Nodes);

/// <summary>Compares the storage of a machine with where it is to go. Writes nothing.</summary>
internal sealed class QemuMovePlanner(QemuDriverContext context, QemuMachine machine)
{
    private readonly ImageInspector inspector = new(context.Options.QemuImg, context.Processes);

    public async Task<QemuMovePlan> PlanAsync(StorageMoveRequest request, CancellationToken cancellationToken)
    {
        if (context.Options.StateFolder is null)
        {
            throw new FaultException(FaultReason.Unsupported, "Disks of QEMU machines are moved by an agent that has a state folder: without one, nobody would know where they are.");
        }
        var findings = new List<RestoreFinding>();
        var running = await QemuMonitors.IsListeningAsync(machine, cancellationToken);
        var nodes = new Dictionary<string, string>(StringComparer.Ordinal);
        var disks = running ? await ReadRunningAsync(nodes, cancellationToken) : await ReadStoppedAsync(cancellationToken);
        var moves = NewPlaces.Plan(request, disks, NewPlaces.FolderOf, context.Moving, findings);
        if (!running)
        {
            foreach (var (disk, move) in moves.Where(static move => move.Move.Format != move.Disk.Summary.Format))
            {
                findings.Add(NewPlaces.Blocks("disk format", $"Disk {disk.Summary.Name} can get another format ({move.Format}) only while the machine runs. Start it first, or leave the format as it is."));
            }
        }
        MoveComparison.Compare(moves, running, (disk, format) => format == "qcow2" || (running && format == disk.Summary.Format), findings);
        var planned = moves.Select(static move => move.Move).ToList();
        if (planned.Count > 0)
        {
            findings.Add(new RestoreFinding("machine", FindingSeverity.Adapts,
                $"{(running ? "The QEMU process goes on. " : "")}Whoever starts the machine next must name the new images; {MovedMachine.ScriptOf(machine.Name, planned[0].NewPath)} will do so."));
        }
        return new QemuMovePlan(new StorageMovePlan(machine.Uuid, running, planned.Count == 0 ? "" : MoveComparison.NamePath(planned, "qemu", running), planned, findings), nodes);
    }

    private async Task<IReadOnlyList<MovableDisk>> ReadRunningAsync(Dictionary<string, string> nodes, CancellationToken cancellationToken)
    {
        await using var qmp = await new PatientMonitor(context, machine).OpenAsync(cancellationToken);
        var process = await QemuProcess.ReadAsync(qmp.ReadPeer(), qmp.SocketPath, cancellationToken);
        var named = await BlockInventory.ReadNodesAsync(qmp, cancellationToken);
        var images = (await qmp.ExecuteAsync("query-block", null, cancellationToken)).Items().Select(static device => device.Find("inserted")).Where(static inserted => inserted is not null)
            .ToDictionary(static inserted => inserted!.Value.Text("node-name"), static inserted => inserted!.Value.Field("image"));
        var busy = (await qmp.ExecuteAsync("query-block-jobs", null, cancellationToken)).Items().Select(static job => job.Text("device")).ToHashSet(StringComparer.Ordinal);
        var disks = new List<MovableDisk>();
        foreach (var disk in await BlockInventory.ReadAsync(qmp, machine.Uuid, new HashSet<string>(), cancellationToken))
        {
            var path = disk.File.Length > 0 ? Path.GetFullPath(disk.File, process.WorkingDirectory) : "";
            var image = images.GetValueOrDefault(disk.Node);
            nodes[disk.Summary.Name] = disk.Node;
            var bitmaps = named.GetValueOrDefault(disk.Node).Find("dirty-bitmaps") is { } list ? list.Items().ToList() : [];
            disks.Add(new MovableDisk(disk.Summary, path, Math.Min(disk.Summary.LengthBytes, SumActual(image)), image.Find("backing-image") is not null,
                named.GetValueOrDefault(disk.Node).Find("cache") is { } cache && cache.Flag("direct"))
            {
                Problem = disk.Filter is not null ? $"Disk {disk.Summary.Name} still carries an earlier capture; back the machine up, which settles it, then move it."
                    : !Path.Exists(path) ? $"Disk {disk.Summary.Name} ({disk.File}) is no file of this host."
                    : disk.Summary.Name == disk.Node && disk.DevicePath?.StartsWith("/machine/peripheral/", StringComparison.Ordinal) != true ? $"Disk {disk.Summary.Name} is attached to a device without an id, so that it is known by its block node, which a move exchanges. Give the -device an id, and start the machine anew."
                    : busy.Overlaps([disk.Node, disk.Summary.Name]) || bitmaps.Exists(static bitmap => bitmap.Flag("busy"))
                        ? $"Another job of QEMU works on disk {disk.Summary.Name} (a backup, a mirror). Wait for its end." : null,
            });
        }
        return disks;
    }

    private static long SumActual(JsonElement image)
    {
        long bytes = 0;
        for (JsonElement? layer = image; layer is { } at; layer = at.Find("backing-image"))
        {
            bytes += at.Find("actual-size") is null ? 0 : at.Number("actual-size");
        }
        return bytes;
    }

    private async Task<IReadOnlyList<MovableDisk>> ReadStoppedAsync(CancellationToken cancellationToken)
    {
        var seen = LastSeen.Read(context.Options.StateFolder, machine.Uuid) ?? throw new FaultException(FaultReason.FailedPrecondition,
            $"The machine {machine.Name} does not run, and this agent never backed it up, so that its disks are not known. Start it, or back it up once.");
        var disks = new List<MovableDisk>();
        foreach (var disk in seen.Disks)
        {
            var path = Path.GetFullPath(disk.File, seen.WorkingDirectory);
            var image = new MachineImage(disk.Name, path, disk.Format);
            var id = Id16.TryParse(disk.Id, out var known) ? known : CaptureNames.DiskId(machine.Uuid, disk.Name);
            if (!disk.Captured)
            {
                disks.Add(new MovableDisk(new DiskSummary(id, disk.Name, 0, disk.Format, "it is not captured"), path, 0, false));
                continue;
            }
            try
            {
                var length = await inspector.ReadLengthAsync(image, cancellationToken);
                var layers = await inspector.FollowLayersAsync(image, cancellationToken);
                InPlaceMark.RequireNone(path, context.Options.StateFolder);
                disks.Add(new MovableDisk(new DiskSummary(id, disk.Name, length, disk.Format, null), path, BlockDevice.Is(path) ? length : AllocatedFile.BytesOf(path), layers.Count > 1)
                {
                    Problem = layers.Count > 1 ? $"Disk {disk.Name} builds on other images; while the machine is off it cannot be moved. Move it while it runs." : null,
                });
            }
            catch (FaultException fault)
            {
                disks.Add(new MovableDisk(new DiskSummary(id, disk.Name, 0, disk.Format, null), path, 0, false) { Problem = fault.Message });
            }
        }
        return disks;
    }
}
