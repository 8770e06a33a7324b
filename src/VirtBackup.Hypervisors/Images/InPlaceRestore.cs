using VirtBackup.Core;

namespace VirtBackup.Hypervisors.Images;

/// <summary>
/// The existing images of a stopped machine, all locked, being made equal to a recovery point. Marks stand beside them from
/// before the first write until all are whole.
/// </summary>
internal sealed class InPlaceRestore : IRestore
{
    private readonly RestoreRequest _request;
    private readonly Func<CancellationToken, Task<RestoredMachine>> _finish;
    private readonly string _sockets;
    private readonly List<ExistingImage> _disks = [];
    private readonly Lazy<bool> _marked;

    private InPlaceRestore(RestoreRequest request, Func<CancellationToken, Task<RestoredMachine>> finish)
    {
        _request = request;
        _finish = finish;
        _sockets = Directory.CreateTempSubdirectory("virtbackup-restore-").FullName;
        _marked = new Lazy<bool>(Mark);
    }

    public IReadOnlyList<IRestoredDisk> Disks => _disks;

    /// <param name="places">In the order of <see cref="RestoreRequest.Disks"/>.</param>
    /// <param name="finish">Called when all disks are whole and not marked any more.</param>
    public static async Task<IRestore> BeginAsync(
        RestoreRequest request, IReadOnlyList<ExistingPlace> places, ImageTools tools, Func<CancellationToken, Task<RestoredMachine>> finish, CancellationToken cancellationToken)
    {
        var restore = new InPlaceRestore(request, finish);
        try
        {
            foreach (var (number, place) in places.Index())
            {
                restore._disks.Add(await ExistingImage.OpenAsync(
                    place, Path.Combine(restore._sockets, $"{number}.sock"), () => _ = restore._marked.Value, tools, cancellationToken));
            }
            return restore;
        }
        catch
        {
            await restore.DisposeAsync();
            throw;
        }
    }

    /// <summary>Why a disk cannot be restored in place, or null.</summary>
    public static async Task<RestoreFinding?> CheckAsync(RestoreDisk disk, MachineImage image, ImageTools tools, CancellationToken cancellationToken)
    {
        // Beside a device no mark would outlast the host's restart.
        var target = File.Exists(image.Path) ? File.ResolveLinkTarget(image.Path, returnFinalTarget: true)?.FullName ?? image.Path : image.Path;
        if (target.StartsWith("/dev/", StringComparison.Ordinal))
        {
            return Blocks($"{image.Path} is a device; disks in image files can be restored in place. Restore the disk as an image and copy that.");
        }
        try
        {
            var length = await new ImageInspector(tools.QemuImg, new ProcessRunner(tools.Time)).ReadLengthAsync(image, cancellationToken);
            return await ImageLock.IsHeldAsync(image.Path, tools, cancellationToken) ? Blocks($"The image {image.Path} is in use by a running machine. Stop the machine first.")
                : length == disk.LengthBytes ? null
                : Blocks($"Disk {disk.Name} has {length} bytes now and had {disk.LengthBytes}; only a disk of the same length can be restored in place. Replace the machine, or restore it as a new one.");
        }
        catch (FaultException fault)
        {
            return Blocks(fault.Message);
        }
    }

    public async ValueTask<RestoredMachine> CompleteAsync(CancellationToken cancellationToken)
    {
        foreach (var disk in _disks)
        {
            await disk.FinishAsync(cancellationToken);
        }
        // Also those of an earlier run that broke off: the disks are what it was to make of them, or of a later point.
        foreach (var disk in _disks)
        {
            InPlaceMark.Remove(disk.Path);
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
        foreach (var disk in _disks)
        {
            InPlaceMark.Set(disk.Path, _request.Machine, _request.Point);
        }
        return true;
    }

    private static RestoreFinding Blocks(string message) => new("disk", FindingSeverity.Blocks, message);
}
