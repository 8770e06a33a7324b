using System.Runtime.InteropServices;
using VirtBackup.Core;
using VirtBackup.Hypervisors.Images;
using VirtBackup.Hypervisors.Libvirt.Native;

namespace VirtBackup.Hypervisors.Libvirt;

/// <summary>
/// Change tracking of a machine that is off. libvirt makes and deletes checkpoints of running machines only; so bitmaps are
/// made and removed by qemu-img here, under QEMU's own image locks, and libvirt is told of the checkpoint. It goes on with them
/// when the machine is started.
/// </summary>
internal sealed class OfflineTracking(LibvirtContext context, LibvirtConnection connection)
{
    private const uint MetadataOnly = 2, Redefine = 1, Topological = 2;
    private static readonly TimeSpan ToolTimeout = TimeSpan.FromSeconds(60);
    private readonly ImageInspector inspector = new(context.Options.QemuImg, context.Processes);

    /// <summary>What the images of a disk hold. They are not kept locked.</summary>
    /// <param name="checks">Also that they are whole, which reads all of their tables.</param>
    public async Task<OfflineDisk> LookAsync(LibvirtDisk disk, bool checks, CancellationToken cancellationToken)
    {
        var image = new MachineImage(disk.Target, disk.Source.Path!, disk.Format);
        // libvirt reads the header without the image's lock; a machine that was started meanwhile is noticed here. A block device
        // has no length that a file would show.
        var length = await inspector.ReadLengthAsync(image, cancellationToken);
        var layers = checks ? await inspector.ReadLayersAsync(image, cancellationToken) : await inspector.FollowLayersAsync(image, cancellationToken);
        var measured = disk with
        {
            Summary = disk.Summary with { LengthBytes = length > 0 ? length : disk.LengthBytes },
            Source = disk.Source with { Layers = [.. layers.Select(layer => Path.GetFullPath(layer.Path))] },
        };
        var below = new HashSet<string>(StringComparer.Ordinal);
        foreach (var layer in layers.Skip(1))
        {
            below.UnionWith((await inspector.ReadBitmapsAsync(new MachineImage(disk.Target, layer.Path, layer.Format), cancellationToken)).Select(bitmap => bitmap.Name));
        }
        return new OfflineDisk(measured, image, layers, disk.KeepsBitmaps ? await inspector.ReadBitmapsAsync(image, cancellationToken) : [], below);
    }

    /// <summary>Keeps a checkpoint and deletes the other ones of ours, where their images allow it now.</summary>
    /// <returns>The kept point, when at least one disk can be read by changes since it.</returns>
    public async Task<Id16?> SettleAsync(DomainView view, IReadOnlyList<CheckpointRecord> checkpoints, CheckpointRecord? keep, CancellationToken cancellationToken)
    {
        var disks = new List<OfflineDisk>();
        try
        {
            foreach (var disk in view.Disks.Where(disk => disk is { Captured: true, KeepsBitmaps: true }))
            {
                disks.Add(await LookAsync(disk, checks: false, cancellationToken));
            }
        }
        catch (FaultException)
        {
            return keep?.Point; // whoever reads the disk next is told why it cannot be
        }
        foreach (var checkpoint in checkpoints.Where(checkpoint => checkpoint != keep))
        {
            await TryDeleteAsync(view, disks, checkpoint.Point, cancellationToken);
        }
        foreach (var (disk, bitmap) in checkpoints.Count > 0 ? [] : disks.SelectMany(disk => disk.Bitmaps.Select(bitmap => (disk, bitmap))))
        {
            // Of a machine that was undefined and defined again: its checkpoints are gone.
            if (CheckpointRecord.TryReadName(bitmap.Name, out _))
            {
                await RunAsync(["--remove"], disk, bitmap.Name, cancellationToken);
            }
        }
        return keep is not null && disks.Any(disk => ReasonAgainst(keep, disk) is null) ? keep.Point : null;
    }

    /// <summary>Why changes of a disk since a checkpoint are not known, or null.</summary>
    public static string? ReasonAgainst(CheckpointRecord checkpoint, OfflineDisk disk)
    {
        if (TrackingChoice.MismatchOf(checkpoint, disk.Disk) is { } mismatch)
        {
            return mismatch;
        }
        // One image holds all changes only while the chain is the one that the checkpoint was made of.
        if (!checkpoint.Disks.First(known => known.Target == disk.Disk.Target).Layers.Select(Path.GetFullPath).SequenceEqual(disk.Disk.Layers, StringComparer.Ordinal))
        {
            return "overlays were put on its image or taken away since the last recovery point, and the machine is off";
        }
        return disk.Bitmaps.FirstOrDefault(bitmap => bitmap.Name == CheckpointRecord.NameOf(checkpoint.Point)) switch
        {
            null => "its change tracking is missing, since QEMU was not shut down cleanly or the image was exchanged",
            { Inconsistent: true } => "its change tracking is inconsistent, since QEMU was not shut down cleanly",
            { Recording: false } => "its change tracking was stopped by another program",
            _ => null,
        };
    }

    /// <summary>Begins tracking since a point. What cannot be tracked is told to the log, and is read in full the next time.</summary>
    /// <returns>The targets that are tracked.</returns>
    public async Task<IReadOnlySet<string>> BeginAsync(DomainView view, IReadOnlyList<OfflineDisk> disks, Id16 point, Action<string> log, CancellationToken cancellationToken)
    {
        var tracked = new HashSet<string>(StringComparer.Ordinal);
        var keeping = disks.Where(disk => disk.Disk.KeepsBitmaps).ToList();
        if (keeping.Count == 0 || !view.Persistent)
        {
            return tracked;
        }
        try
        {
            // Told first: bitmaps of a run that breaks off here are found by their checkpoint.
            await connection.ChangeAsync(libvirt => Define(libvirt, view, keeping, point), cancellationToken);
        }
        catch (FaultException fault) when (fault.Reason is FaultReason.FailedPrecondition or FaultReason.Unsupported)
        {
            log($"Changes of this machine cannot be tracked while it is off, so that the next backup reads all: {fault.Message}");
            return tracked;
        }
        foreach (var disk in keeping)
        {
            if (await RunAsync(["--add", "--enable"], disk, CheckpointRecord.NameOf(point), cancellationToken) is { } problem)
            {
                log($"Changes of disk {disk.Disk.Target} cannot be tracked from now on: {problem}");
                continue;
            }
            tracked.Add(disk.Disk.Target);
        }
        return tracked;
    }

    private async Task TryDeleteAsync(DomainView view, IReadOnlyList<OfflineDisk> disks, Id16 point, CancellationToken cancellationToken)
    {
        var name = CheckpointRecord.NameOf(point);
        // What stays goes with a later settlement, and does no harm until then. Images below the topmost are not written to here.
        if (disks.Any(disk => disk.BitmapsBelow.Contains(name)))
        {
            return;
        }
        foreach (var disk in disks.Where(disk => disk.Bitmaps.Any(bitmap => bitmap.Name == name)))
        {
            if (await RunAsync(["--remove"], disk, name, cancellationToken) is not null)
            {
                return;
            }
        }
        await connection.ChangeAsync(libvirt =>
        {
            using var domain = Domains.Find(libvirt, view.Document.Uuid);
            using var checkpoint = LibvirtCalls.FindCheckpoint(domain, name, 0);
            return checkpoint.IsInvalid ? 0 : LibvirtValues.Require(LibvirtCalls.Delete(checkpoint, MetadataOnly));
        }, cancellationToken);
    }

    private bool Define(ConnectionHandle libvirt, DomainView view, IReadOnlyList<OfflineDisk> disks, Id16 point)
    {
        using var domain = Domains.Find(libvirt, view.Document.Uuid);
        var xml = CheckpointRecord.WriteMade(point, view.Document.Disks,
            [.. disks.Select(disk => new CheckpointedDisk(disk.Disk.Target, disk.Disk.LengthBytes, disk.Disk.Layers))], FindNewest(domain), context.Time.GetUtcNow().ToUnixTimeSeconds());
        using var checkpoint = LibvirtValues.Require(LibvirtCalls.CreateCheckpoint(domain, xml, Redefine));
        return true;
    }

    /// <summary>The checkpoint that libvirt would put the next one behind, whoever made it.</summary>
    private static string? FindNewest(DomainHandle domain)
    {
        string? newest = null;
        foreach (var checkpoint in LibvirtValues.TakeAll<CheckpointHandle>(LibvirtCalls.ListCheckpoints(domain, out var array, Topological), array))
        {
            using (checkpoint)
            {
                newest = Marshal.PtrToStringUTF8(LibvirtCalls.GetName(checkpoint)) ?? newest;
            }
        }
        return newest;
    }

    /// <returns>Why it was not done, or null.</returns>
    private async Task<string?> RunAsync(string[] operation, OfflineDisk disk, string bitmap, CancellationToken cancellationToken)
    {
        var result = await context.Processes.RunAsync(
            context.Options.QemuImg, ["bitmap", .. operation, "-f", "qcow2", disk.Image.Path, bitmap], ToolTimeout, cancellationToken);
        return result.ExitCode == 0 ? null : ProcessRunner.LastLines(result.Error, 1);
    }
}

/// <summary>A disk of a machine that is off.</summary>
/// <param name="Disk">With the length and the chain of images that the images themselves tell.</param>
/// <param name="Bitmaps">Of the topmost image.</param>
/// <param name="BitmapsBelow">Names of those in the images below it.</param>
internal sealed record OfflineDisk(
    LibvirtDisk Disk, MachineImage Image, IReadOnlyList<ImageLayer> Layers, IReadOnlyList<ImageBitmap> Bitmaps, IReadOnlySet<string> BitmapsBelow);
