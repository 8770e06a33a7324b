using VirtBackup.Core;
using VirtBackup.Hypervisors.Images;
using VirtBackup.Hypervisors.Moving;

namespace VirtBackup.Hypervisors.Libvirt.Moving;

/// <summary>Compares the storage of a machine of libvirt with where it is to go. Writes nothing.</summary>
internal sealed class LibvirtMovePlanner(LibvirtContext context, LibvirtConnection connection)
{
    private const string PoolPrefix = "pool:";

    public async Task<StorageMovePlan> PlanAsync(StorageMoveRequest request, CancellationToken cancellationToken)
    {
        if (context.Options.StateFolder is null)
        {
            throw new FaultException(FaultReason.Unsupported, "Disks are moved by an agent that has a state folder: without one, a move that breaks off would not be undone.");
        }
        var findings = new List<RestoreFinding>();
        var view = await connection.QueryAsync(libvirt => Domains.Read(libvirt, request.Machine), cancellationToken);
        var pools = await connection.QueryAsync(StoragePools.List, cancellationToken);
        var moves = NewPlaces.Plan(request, [.. view.Disks.Select(disk => Movable(view, disk))], target => FolderOf(target, pools), findings);
        if (!view.Active)
        {
            foreach (var (disk, move) in moves.Where(static move => move.Move.Format != move.Disk.Summary.Format))
            {
                findings.Add(NewPlaces.Blocks("disk format", $"Disk {disk.Summary.Name} can get another format ({move.Format}) only while the machine runs. Start it first, or leave the format as it is."));
            }
        }
        if (view.HasSavedState)
        {
            findings.Add(NewPlaces.Blocks("machine", "The machine has a saved state, which knows its disks where they are. Start it, then move it."));
        }
        MoveComparison.Compare(moves, view.Active, (disk, format) => format == "qcow2" && view.Disks.First(known => known.Target == disk.Summary.Name).KeepsBitmaps, findings);
        var planned = moves.Select(static move => move.Move).ToList();
        findings.AddRange(planned.Select(static move => Path.GetDirectoryName(move.NewPath)!).Distinct().Select(folder => StoragePools.Judge(folder, pools)).OfType<RestoreFinding>());
        if (planned.Count > 0)
        {
            findings.Add(new RestoreFinding("machine", FindingSeverity.Adapts, "libvirt's definition of the machine names the new images."));
        }
        return new StorageMovePlan(request.Machine, view.Active, planned.Count == 0 ? "" : MoveComparison.NamePath(planned, "libvirt", view.Active), planned, findings);
    }

    private static MovableDisk Movable(DomainView view, LibvirtDisk disk)
    {
        var path = disk.Source.Path is { } named ? Path.GetFullPath(named) : "";
        var size = !File.Exists(path) || BlockDevice.Is(path) ? disk.LengthBytes : 0;
        var layers = disk.Layers.Where(static layer => !BlockDevice.Is(layer) && File.Exists(layer)).Sum(AllocatedFile.BytesOf);
        var mirrored = MovedDomain.ReadMirrors(view.Document).ContainsKey(disk.Target);
        return new MovableDisk(disk.Summary, path, Math.Min(disk.LengthBytes, Math.Max(size, Math.Max(layers, disk.AllocatedBytes))), disk.Layers.Count > 1)
        {
            Problem = disk.Problem is { } problem ? problem
                : mirrored ? $"Another job of libvirt copies disk {disk.Target}. Wait for its end, or end it with 'virsh blockjob --abort'."
                : !view.Active && disk.Layers.Count > 1 ? $"Disk {disk.Target} builds on other images; while the machine is off it cannot be moved. Move it while it runs."
                : !view.Active && BlockDevice.Is(path) ? $"Disk {disk.Target} is a device; while the machine is off it cannot be moved. Move it while it runs." : null,
        };
    }

    private static string FolderOf(string target, List<StoragePool> pools)
    {
        if (!target.StartsWith(PoolPrefix, StringComparison.Ordinal))
        {
            return NewPlaces.FolderOf(target);
        }
        var name = target[PoolPrefix.Length..];
        return pools.FirstOrDefault(pool => pool.Name == name)?.Path
            ?? throw new FaultException(FaultReason.NotFound, $"libvirt has no storage pool '{name}'{(pools.Count > 0 ? $"; it has {string.Join(", ", pools.Select(static pool => pool.Name))}" : "")}.");
    }
}
