using VirtBackup.Core;

namespace VirtBackup.Hypervisors.Images;

/// <summary>
/// New images beside the old ones of a stopped machine, which they replace when all are complete. Until the machine is
/// defined and, if asked to, started, the old images can take their places again.
/// </summary>
internal sealed class ReplacingRestore : IRestore
{
    private readonly RestoreRequest _request;
    private readonly IReadOnlyList<MachineImage> _places;
    private readonly ImageTools _tools;
    private readonly Func<ReplacementJournal, CancellationToken, Task<RestoredMachine>> _finish;
    private readonly IReadOnlyList<(string Path, ReadOnlyMemory<byte> Bytes)> _contents;
    private readonly ReplacementJournal _journal;
    private readonly string _sockets;
    private readonly List<ImageWriter> _disks = [];

    private ReplacingRestore(
        RestoreRequest request, IReadOnlyList<MachineImage> places, ImageTools tools, Func<ReplacementJournal, CancellationToken, Task<RestoredMachine>> finish,
        IReadOnlyList<(string Path, ReadOnlyMemory<byte> Bytes)> contents, string? definition)
    {
        _contents = contents;
        _request = request;
        _places = places;
        _tools = tools;
        _finish = finish;
        _journal = new ReplacementJournal([.. places.Select(place => place.Path), .. contents.Select(content => content.Path)], $".replaced-{request.Point.ToString()[..8]}", definition);
        _sockets = Directory.CreateTempSubdirectory("virtbackup-restore-").FullName;
    }

    public IReadOnlyList<IRestoredDisk> Disks => _disks;

    /// <param name="places">The old images and the formats of the new ones, in the order of <see cref="RestoreRequest.Disks"/>.</param>
    /// <param name="contents">Small files that are replaced together with the images.</param>
    /// <param name="finish">Called when the new images have their names; on its failure the old ones get them back. It settles the journal before it starts anything.</param>
    /// <param name="definition">Kept in the journal while the images are exchanged.</param>
    public static async Task<IRestore> BeginAsync(
        RestoreRequest request, IReadOnlyList<MachineImage> places, ImageTools tools, Func<ReplacementJournal, CancellationToken, Task<RestoredMachine>> finish,
        CancellationToken cancellationToken, IReadOnlyList<(string Path, ReadOnlyMemory<byte> Bytes)>? contents = null, string? definition = null)
    {
        ReplacementJournal.Recover(places.Select(place => place.Path));
        var restore = new ReplacingRestore(request, places, tools, finish, contents ?? [], definition);
        try
        {
            foreach (var (number, place) in places.Index())
            {
                var path = ReplacementJournal.NewPath(place.Path);
                File.Delete(path);
                restore._disks.Add(await ImageWriter.CreateAsync(
                    request.Disks[number] with { Format = place.Format }, path, Path.Combine(restore._sockets, $"{number}.sock"), request.Preallocation, tools, cancellationToken));
            }
            return restore;
        }
        catch (Exception failure)
        {
            await restore.DisposeAsync();
            throw failure is IOException or UnauthorizedAccessException
                ? new FaultException(FaultReason.FailedPrecondition, $"New images cannot be made beside the old ones: {failure.Message}", failure) : failure;
        }
    }

    /// <summary>What stands in the way of replacing these images. Writes nothing.</summary>
    public static async Task<IReadOnlyList<RestoreFinding>> CheckAsync(
        RestoreRequest request, IReadOnlyList<MachineImage> places, ImageTools tools, CancellationToken cancellationToken)
    {
        var findings = new List<RestoreFinding>();
        foreach (var place in places)
        {
            if (place.Format is not ("qcow2" or "raw"))
            {
                findings.Add(Blocks("disk format", $"Disk {place.Name} is to be made as '{place.Format}'; qcow2 and raw are possible."));
            }
            if (!Directory.Exists(Path.GetDirectoryName(place.Path)) || place.Path.StartsWith("/dev/", StringComparison.Ordinal))
            {
                findings.Add(Blocks("folder", $"No new image can be made as {place.Path}. Restore the machine into a folder instead."));
            }
            else if (await ImageLock.IsHeldAsync(place.Path, tools, cancellationToken))
            {
                findings.Add(Blocks("identity", $"The image {place.Path} is in use by a running machine. Stop the machine first."));
            }
        }
        foreach (var folder in request.Disks.Zip(places).GroupBy(pair => Path.GetDirectoryName(pair.Second.Path)!).Where(folder => Directory.Exists(folder.Key)))
        {
            var needed = folder.Sum(pair => request.Preallocation == DiskPreallocation.Full ? pair.First.LengthBytes : Math.Min(pair.First.DataBytes, pair.First.LengthBytes));
            var free = FreeSpace.Of(folder.Key);
            var space = $"{needed >> 20} MiB are needed at {folder.Key} beside the old images, {free >> 20} MiB are free.";
            findings.Add(free < needed ? Blocks("space", $"{space} Free space there, or restore in place.") : new RestoreFinding("space", FindingSeverity.Fits, space));
        }
        findings.Add(new RestoreFinding("machine", FindingSeverity.Adapts,
            $"The existing images {(request.KeepReplaced ? "stay beside the new ones" : "are removed when the new machine is complete")}: {string.Join(", ", places.Select(place => place.Path))}."));
        return findings;
    }

    public async ValueTask<RestoredMachine> CompleteAsync(CancellationToken cancellationToken)
    {
        var processes = new ProcessRunner(_tools.Time);
        foreach (var (disk, place) in _disks.Zip(_places))
        {
            await disk.FinishAsync(cancellationToken);
            await FileOwner.CopyAsync(place.Path, disk.Path, processes, cancellationToken);
        }
        foreach (var (path, bytes) in _contents)
        {
            DurableFile.Write(ReplacementJournal.NewPath(path), bytes.Span);
            await FileOwner.CopyAsync(path, ReplacementJournal.NewPath(path), processes, cancellationToken);
        }
        foreach (var place in _places)
        {
            if (await ImageLock.IsHeldAsync(place.Path, _tools, cancellationToken))
            {
                throw new FaultException(FaultReason.FailedPrecondition, $"The image {place.Path} was taken into use while it was to be replaced. The machine is as it was; stop it and run the restore again.");
            }
        }
        _journal.Swap();
        RestoredMachine machine;
        try
        {
            machine = await _finish(_journal, cancellationToken);
        }
        catch (Exception failure) when (!_journal.IsLeft)
        {
            _journal.GoBack();
            throw failure is FaultException fault
                ? new FaultException(fault.Reason, $"{fault.Message} The old machine's disks are in their places again.", fault) : failure;
        }
        var kept = _journal.Commit(_request.KeepReplaced);
        return kept.Count == 0 ? machine
            : machine with { Details = new Dictionary<string, string>(machine.Details, StringComparer.Ordinal) { ["replaced"] = string.Join(", ", kept) } };
    }

    public async ValueTask DisposeAsync()
    {
        foreach (var disk in _disks)
        {
            await disk.DisposeAsync();
        }
        foreach (var place in _places)
        {
            // After a completed restore there are none.
            File.Delete(ReplacementJournal.NewPath(place.Path));
            File.Delete(ImageWriter.UnfinishedPath(ReplacementJournal.NewPath(place.Path)));
        }
        foreach (var (path, _) in _contents)
        {
            File.Delete(ReplacementJournal.NewPath(path));
        }
        if (Directory.Exists(_sockets))
        {
            Directory.Delete(_sockets, recursive: true);
        }
    }

    private static RestoreFinding Blocks(string item, string message) => new(item, FindingSeverity.Blocks, message);
}
