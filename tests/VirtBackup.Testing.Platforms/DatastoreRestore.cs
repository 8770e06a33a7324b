using VirtBackup.Core;
using VirtBackup.Hypervisors;

namespace VirtBackup.Testing.Platforms;

/// <summary>A machine being restored onto a server's datastore, by calls of the server.</summary>
internal sealed class DatastoreRestore : IRestore
{
    private readonly ServerLink link;
    private readonly MemoryDatastore datastore;
    private readonly RestoreRequest request;
    private readonly List<Target> disks = [];
    private bool completed;

    private DatastoreRestore(ServerLink link, MemoryDatastore datastore, RestoreRequest request)
    {
        this.link = link;
        this.datastore = datastore;
        this.request = request;
    }

    public IReadOnlyList<IRestoredDisk> Disks => disks;

    /// <summary>Compares; writes nothing.</summary>
    public static ValueTask<IReadOnlyList<RestoreFinding>> CheckAsync(
        ServerLink link, MemoryDatastore datastore, RestoreRequest request, string format, CancellationToken cancellationToken) =>
        link.CallAsync<IReadOnlyList<RestoreFinding>>("CheckDatastore", () => [.. Find(datastore, request, format)], cancellationToken);

    public static async ValueTask<IRestore> BeginAsync(
        ServerLink link, MemoryDatastore datastore, RestoreRequest request, string format, CancellationToken cancellationToken)
    {
        var blocked = (await CheckAsync(link, datastore, request, format, cancellationToken)).Where(finding => finding.Severity == FindingSeverity.Blocks).ToList();
        if (blocked.Count > 0)
        {
            throw new FaultException(FaultReason.FailedPrecondition, $"The machine {request.Name} cannot be restored here: {string.Join(" ", blocked.Select(finding => finding.Message))}");
        }
        var restore = new DatastoreRestore(link, datastore, request);
        try
        {
            foreach (var (number, disk) in request.Disks.Index())
            {
                var target = new Target(restore, disk, $"{request.Folder}/{number}.{disk.Format}");
                // Remembered before it is made: an answer that is lost leaves nothing either.
                restore.disks.Add(target);
                await link.CallAsync("CreateDisk", () => datastore.Create(target.Path, disk.LengthBytes), cancellationToken);
            }
            return restore;
        }
        catch
        {
            await restore.DisposeAsync();
            throw;
        }
    }

    public async ValueTask<RestoredMachine> CompleteAsync(CancellationToken cancellationToken)
    {
        await link.CallAsync("RegisterMachine", () => datastore.Register(request.Name, [.. disks.Select(disk => disk.Path)]), cancellationToken);
        completed = true;
        var details = disks.ToDictionary(disk => $"disk {disk.Disk.Name}", disk => disk.Path, StringComparer.Ordinal);
        return new RestoredMachine(request.Machine, request.Name, await request.MayStartAsync(cancellationToken), details);
    }

    public async ValueTask DisposeAsync()
    {
        if (completed)
        {
            return;
        }
        try
        {
            foreach (var disk in disks)
            {
                await link.CallAsync("DeleteDisk", () => datastore.Delete(disk.Path), CancellationToken.None);
            }
            disks.Clear();
        }
        catch (FaultException)
        {
            // The server is out of reach: its files stay.
        }
    }

    private static IEnumerable<RestoreFinding> Find(MemoryDatastore datastore, RestoreRequest request, string format)
    {
        foreach (var disk in request.Disks.Where(disk => disk.Format != format))
        {
            yield return new RestoreFinding("disk format", FindingSeverity.Blocks, $"Disk {disk.Name} is to be made as '{disk.Format}'; {format} is possible.");
        }
        var isTaken = datastore.Files.Any(file => file.StartsWith(request.Folder + "/", StringComparison.Ordinal)) || datastore.Machines.Contains(request.Name);
        yield return isTaken
            ? new RestoreFinding("folder", FindingSeverity.Blocks, $"{request.Folder} or the name {request.Name} is taken. Choose another.")
            : new RestoreFinding("folder", FindingSeverity.Fits, $"{request.Folder} is free.");
        var needed = request.Disks.Sum(disk => disk.LengthBytes);
        yield return needed > datastore.FreeBytes
            ? new RestoreFinding("space", FindingSeverity.Blocks, $"{needed} bytes are needed, {datastore.FreeBytes} are free.")
            : new RestoreFinding("space", FindingSeverity.Fits, $"{needed} bytes are needed, {datastore.FreeBytes} are free.");
    }

    private sealed class Target(DatastoreRestore owner, RestoreDisk disk, string path) : IRestoredDisk
    {
        public RestoreDisk Disk => disk;

        public string Path => path;

        public ValueTask WriteAsync(long offset, ReadOnlyMemory<byte> source, CancellationToken cancellationToken) =>
            owner.link.CallAsync("WriteDisk", () => owner.datastore.Write(path, offset, source.Span), cancellationToken);
    }
}
