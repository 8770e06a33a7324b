using VirtBackup.Core;

namespace VirtBackup.Hypervisors.Images;

/// <summary>
/// The existing images of a stopped machine, all locked, being made equal to a recovery point. Marks stand beside them from
/// before the first write until all are whole.
/// </summary>
internal sealed class InPlaceRestore : IRestore
{
    private readonly RestoreRequest _request;
    private readonly IReadOnlyList<ExistingPlace> _places;
    private readonly ImageTools _tools;
    private readonly Func<CancellationToken, Task<RestoredMachine>> _finish;
    private readonly IReadOnlyList<ContentFile> _contents;
    private readonly string _sockets;
    private readonly List<ExistingImage> _disks = [];
    private readonly Lazy<bool> _marked;

    private InPlaceRestore(
        RestoreRequest request, IReadOnlyList<ExistingPlace> places, ImageTools tools, Func<CancellationToken, Task<RestoredMachine>> finish, IReadOnlyList<ContentFile> contents)
    {
        _request = request;
        _places = places;
        _tools = tools;
        _finish = finish;
        _contents = contents;
        _sockets = Directory.CreateTempSubdirectory("virtbackup-restore-").FullName;
        _marked = new Lazy<bool>(Mark);
    }

    public IReadOnlyList<IRestoredDisk> Disks => _disks;

    /// <param name="places">In the order of <see cref="RestoreRequest.Disks"/>. Images of another length get that of the recovery point at once.</param>
    /// <param name="finish">Called when all disks and small files are whole and not marked any more.</param>
    /// <param name="contents">Small files that are replaced when the disks are whole.</param>
    public static async Task<IRestore> BeginAsync(
        RestoreRequest request, IReadOnlyList<ExistingPlace> places, ImageTools tools, Func<CancellationToken, Task<RestoredMachine>> finish, CancellationToken cancellationToken,
        IReadOnlyList<ContentFile>? contents = null)
    {
        var restore = new InPlaceRestore(request, places, tools, finish, contents ?? []);
        try
        {
            foreach (var (number, place) in places.Index())
            {
                restore._disks.Add(await ExistingImage.OpenAsync(
                    await restore.FitAsync(place, cancellationToken), Path.Combine(restore._sockets, $"{number}.sock"), () => _ = restore._marked.Value, tools, cancellationToken));
            }
            return restore;
        }
        catch
        {
            await restore.DisposeAsync();
            throw;
        }
    }

    /// <summary>What there is to say of restoring a disk in place beyond that it is possible; null: nothing. Writes nothing.</summary>
    public static async Task<RestoreFinding?> CheckAsync(RestoreDisk disk, MachineImage image, ImageTools tools, CancellationToken cancellationToken)
    {
        try
        {
            var isDevice = BlockDevice.Is(image.Path);
            var length = await new ImageInspector(tools.QemuImg, new ProcessRunner(tools.Time)).ReadLengthAsync(image, cancellationToken);
            if (await ImageLock.IsHeldAsync(image.Path, tools, cancellationToken))
            {
                return Blocks($"{image.Path} is in use by a running machine. Stop the machine first.");
            }
            if (isDevice && FindObstacle(disk, image, length, tools) is { } obstacle)
            {
                return Blocks(obstacle);
            }
            return length == disk.LengthBytes ? null : new RestoreFinding("disk", FindingSeverity.Adapts,
                $"Disk {disk.Name} has {length} bytes now and had {disk.LengthBytes}: {image.Path} is {(length < disk.LengthBytes ? "grown" : "shrunk, and what lies behind is lost")}. All of it is compared, and the next backup reads it in full.");
        }
        catch (FaultException fault)
        {
            return Blocks(fault.Message);
        }
    }

    private static string? FindObstacle(RestoreDisk disk, MachineImage image, long length, ImageTools tools) =>
        tools.StateFolder is null ? $"{image.Path} is a device, and this agent has no folder for the mark of a restore that breaks off. Restore the disk as an image and copy that."
        : image.Format != "raw" ? $"{image.Path} is a device that holds a {image.Format} image; devices with raw disks can be restored in place. Restore the disk as an image and copy that."
        : length != disk.LengthBytes ? $"The device {image.Path} has {length} bytes, and disk {disk.Name} had {disk.LengthBytes}; the length of a device is for its owner to change (lvresize, for a logical volume). Do so, or restore the disk as an image."
        : BlockDevice.IsHeldByHost(image.Path) ? $"The device {image.Path} is in use by this host itself: something on it is mounted, or belongs to a volume group, a RAID or swap. Release it first."
        : null;

    // Behind the mark: what is cut off is gone for good.
    private async Task<ExistingPlace> FitAsync(ExistingPlace place, CancellationToken cancellationToken)
    {
        var length = await new ImageInspector(_tools.QemuImg, new ProcessRunner(_tools.Time)).ReadLengthAsync(place.Image, cancellationToken);
        if (length == place.Disk.LengthBytes)
        {
            return place;
        }
        _ = _marked.Value;
        await ImageLength.ChangeAsync(place.Image, length, place.Disk.LengthBytes, _tools, cancellationToken);
        return place with { Bitmap = null, TrackedSince = null, TrackingDetail = $"its length was {length} bytes" };
    }

    public async ValueTask<RestoredMachine> CompleteAsync(CancellationToken cancellationToken)
    {
        foreach (var disk in _disks)
        {
            await disk.FinishAsync(cancellationToken);
        }
        if (_contents.Count > 0)
        {
            // Nothing of the disks may have differed.
            _ = _marked.Value;
        }
        foreach (var content in _contents)
        {
            await content.PlaceAsync(new ProcessRunner(_tools.Time), cancellationToken);
        }
        // Also those of an earlier run that broke off: the disks are what it was to make of them, or of a later point.
        foreach (var disk in _disks)
        {
            InPlaceMark.Remove(disk.Path, _tools.StateFolder);
        }
        return await _finish(cancellationToken);
    }

    public async ValueTask DisposeAsync()
    {
        foreach (var disk in _disks)
        {
            await disk.DisposeAsync();
        }
        if (Directory.Exists(_sockets))
        {
            Directory.Delete(_sockets, recursive: true);
        }
    }

    private bool Mark()
    {
        foreach (var place in _places)
        {
            InPlaceMark.Set(place.Image.Path, _tools.StateFolder, _request.Machine, _request.Point);
        }
        return true;
    }

    private static RestoreFinding Blocks(string message) => new("disk", FindingSeverity.Blocks, message);
}
