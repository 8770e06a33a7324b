using VirtBackup.Hypervisors.Moving;

namespace VirtBackup.Hypervisors.Images;

/// <summary>New images in a folder of their own; there is nothing to start.</summary>
internal sealed class ImageRestore : IRestore
{
    private readonly RestoreRequest request;
    private readonly NewImages images;
    private readonly ImageTools tools;

    private ImageRestore(RestoreRequest request, NewImages images, ImageTools tools)
    {
        this.request = request;
        this.images = images;
        this.tools = tools;
    }

    public IReadOnlyList<IRestoredDisk> Disks => images.Disks;

    /// <summary>Compares the request with this host; writes nothing.</summary>
    /// <param name="records">Of machines that came to this host.</param>
    public static IReadOnlyList<RestoreFinding> Check(RestoreRequest request, MovingRecords records)
    {
        var findings = new List<RestoreFinding>();
        foreach (var disk in request.Disks)
        {
            findings.Add(disk.Format is "qcow2" or "raw"
                ? new RestoreFinding("disk format", FindingSeverity.Fits, $"Disk {disk.Name} is made as {disk.Format}.")
                : Blocks("disk format", $"Disk {disk.Name} is to be made as '{disk.Format}'; qcow2 and raw are possible."));
        }
        findings.AddRange(RestoreFolder.Check(request, isMachine: false, records));
        findings.Add(new RestoreFinding("machine", FindingSeverity.Adapts, request.DisksOnly
            ? "Disks are restored as images; no machine is defined or started." : "The machine was backed up as image files: its disks are restored, and nothing is started."));
        return findings;
    }

    public static async ValueTask<IRestore> BeginAsync(RestoreRequest request, ImageTools tools, CancellationToken cancellationToken)
    {
        var names = new ImageFileNames();
        var paths = request.Disks.Select(disk => Path.Combine(request.Folder, $"{names.Add(disk.Name)}.{disk.Format}")).ToList();
        return new ImageRestore(request, await NewImages.CreateAsync(request, paths, [], tools, cancellationToken), tools);
    }

    public async ValueTask<RestoredMachine> CompleteAsync(CancellationToken cancellationToken)
    {
        var details = new Dictionary<string, string>(StringComparer.Ordinal) { ["folder"] = request.Folder };
        await images.FinishAsync(cancellationToken);
        foreach (var disk in images.Disks)
        {
            details[$"disk {disk.Disk.Name}"] = disk.Path;
        }
        images.Flush();
        images.Keep();
        var inspector = new ImageInspector(tools.QemuImg, new ProcessRunner(tools.Time));
        return new RestoredMachine(request.Machine, request.Name, Running: false, details)
        {
            CapturedDescription = request.DisksOnly ? ImageDescription.OfStored(request.Configuration, request.Machine) : null,
            Description = await ImageDescription.ReadBackAsync(request, [.. images.Disks.Select(disk => new MachineImage(disk.Disk.Name, disk.Path, disk.Disk.Format))], inspector, cancellationToken),
        };
    }

    public ValueTask DisposeAsync() => images.DisposeAsync();

    private static RestoreFinding Blocks(string item, string message) => new(item, FindingSeverity.Blocks, message);
}
