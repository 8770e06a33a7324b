using VirtBackup.Core;

namespace VirtBackup.Hypervisors.Images;

/// <summary>New images in a folder of their own; there is nothing to start.</summary>
internal sealed class ImageRestore : IRestore
{
    private readonly RestoreRequest request;
    private readonly bool folderExisted;
    private readonly List<ImageWriter> disks = [];
    private readonly ImageTools tools;
    private bool completed;

    private ImageRestore(RestoreRequest request, ImageTools tools)
    {
        this.request = request;
        this.tools = tools;
        folderExisted = Directory.Exists(request.Folder);
    }

    public IReadOnlyList<IRestoredDisk> Disks => disks;

    /// <summary>Compares the request with this host; writes nothing.</summary>
    public static IReadOnlyList<RestoreFinding> Check(RestoreRequest request)
    {
        var findings = new List<RestoreFinding>();
        foreach (var disk in request.Disks)
        {
            findings.Add(disk.Format is "qcow2" or "raw"
                ? new RestoreFinding("disk format", FindingSeverity.Fits, $"Disk {disk.Name} is made as {disk.Format}.")
                : Blocks("disk format", $"Disk {disk.Name} is to be made as '{disk.Format}'; qcow2 and raw are possible."));
        }
        findings.AddRange(RestoreFolder.Check(request, isMachine: false));
        findings.Add(new RestoreFinding("machine", FindingSeverity.Adapts, request.DisksOnly
            ? "Disks are restored as images; no machine is defined or started." : "The machine was backed up as image files: its disks are restored, and nothing is started."));
        return findings;
    }

    public static async ValueTask<IRestore> BeginAsync(RestoreRequest request, ImageTools tools, CancellationToken cancellationToken)
    {
        var restore = new ImageRestore(request, tools);
        try
        {
            PrivateFolder.Create(request.Folder);
            var names = new ImageFileNames();
            foreach (var (number, disk) in request.Disks.Index())
            {
                var path = Path.Combine(request.Folder, $"{names.Add(disk.Name)}.{disk.Format}");
                restore.disks.Add(await ImageWriter.CreateAsync(disk, path, Path.Combine(request.Folder, $"image-{number}.sock"), request.Preallocation, tools, cancellationToken));
            }
            return restore;
        }
        catch (Exception failure)
        {
            await restore.DisposeAsync();
            throw failure is IOException or UnauthorizedAccessException
                ? new FaultException(FaultReason.FailedPrecondition, $"The folder {request.Folder} cannot be used: {failure.Message}", failure) : failure;
        }
    }

    public async ValueTask<RestoredMachine> CompleteAsync(CancellationToken cancellationToken)
    {
        var details = new Dictionary<string, string>(StringComparer.Ordinal) { ["folder"] = request.Folder };
        foreach (var disk in disks)
        {
            await disk.FinishAsync(cancellationToken);
            details[$"disk {disk.Disk.Name}"] = disk.Path;
        }
        DurableFolder.Flush(request.Folder);
        DurableFolder.Flush(Path.GetDirectoryName(request.Folder.TrimEnd('/'))!);
        completed = true;
        var inspector = new ImageInspector(tools.QemuImg, new ProcessRunner(tools.Time));
        return new RestoredMachine(request.Machine, request.Name, Running: false, details)
        {
            Description = await ImageDescription.ReadBackAsync(request, [.. disks.Select(disk => new MachineImage(disk.Disk.Name, disk.Path, disk.Disk.Format))], inspector, cancellationToken),
        };
    }

    public async ValueTask DisposeAsync()
    {
        foreach (var disk in disks)
        {
            await disk.DisposeAsync();
        }
        if (completed || !Directory.Exists(request.Folder))
        {
            return;
        }
        if (!folderExisted)
        {
            Directory.Delete(request.Folder, recursive: true);
            return;
        }
        foreach (var left in Directory.EnumerateFiles(request.Folder))
        {
            File.Delete(left);
        }
    }

    private static RestoreFinding Blocks(string item, string message) => new(item, FindingSeverity.Blocks, message);
}
