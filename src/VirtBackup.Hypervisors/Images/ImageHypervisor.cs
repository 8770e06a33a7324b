using VirtBackup.Core;
using VirtBackup.Hypervisors.Targets;

namespace VirtBackup.Hypervisors.Images;

/// <summary>
/// Powered-off machines as image files. They have no change tracking: every capture reads all allocated blocks unless the
/// caller tells what changed. QEMU's image locks keep a machine from running on an image while it is read.
/// </summary>
public sealed class ImageHypervisor : IHypervisor
{
    private readonly IReadOnlyList<ImageMachine> machines;
    private readonly ImageTools tools;
    private readonly ImageInspector inspector;

    public ImageHypervisor(IReadOnlyList<ImageMachine> machines, ImageTools tools, TimeProvider time)
    {
        ArgumentNullException.ThrowIfNull(machines);
        ArgumentNullException.ThrowIfNull(tools);
        this.machines = machines;
        this.tools = tools with { Time = time };
        inspector = new ImageInspector(tools.QemuImg, new ProcessRunner(time));
    }

    public string Kind => "image";

    public bool HoldsAtGate => true;

    public RestoreAbilities RestoreAbilities => RestoreAbilities.Replace | RestoreAbilities.InPlace | RestoreAbilities.DisksOnly;

    public async ValueTask<IReadOnlyList<MachineSummary>> ListMachinesAsync(CancellationToken cancellationToken)
    {
        var summaries = new List<MachineSummary>(machines.Count);
        foreach (var machine in machines)
        {
            var disks = new List<DiskSummary>(machine.Images.Count);
            string? problem = null;
            foreach (var image in machine.Images)
            {
                try
                {
                    disks.Add(new DiskSummary(image.IdFor(machine.Uuid), image.Name, await inspector.ReadLengthAsync(image, cancellationToken), image.Format, null));
                }
                catch (FaultException fault)
                {
                    problem ??= fault.Message;
                }
            }
            summaries.Add(new MachineSummary(machine.Uuid, machine.Name, Running: false, disks, problem));
        }
        return summaries;
    }

    public ValueTask<IReadOnlyList<Id16>> ListTrackedPointsAsync(Id16 machine, CancellationToken cancellationToken) => ValueTask.FromResult<IReadOnlyList<Id16>>([]);

    public ValueTask<Id16?> SettleAsync(Id16 machine, IReadOnlySet<Id16> committed, CancellationToken cancellationToken) => ValueTask.FromResult<Id16?>(null);

    public ValueTask ReleaseGuestsAsync(CancellationToken cancellationToken)
    {
        OrphanedServers.End(tools.QemuNbd);
        foreach (var machine in machines)
        {
            try
            {
                ReplacementJournal.CleanUp([.. machine.Images.Select(image => image.Path)]);
            }
            catch (Exception failure) when (failure is FaultException or IOException or UnauthorizedAccessException)
            {
                // Whoever uses the machine next is told.
            }
        }
        return ValueTask.CompletedTask;
    }

    public async ValueTask<CapturePlan> PlanCaptureAsync(CaptureRequest request, CancellationToken cancellationToken)
    {
        await using var capture = await BeginCaptureAsync(request, cancellationToken);
        var plans = new List<DiskPlan>(capture.Disks.Count);
        foreach (var disk in capture.Disks)
        {
            long bytes = 0;
            await foreach (var extent in disk.ListExtentsAsync(cancellationToken))
            {
                bytes += extent.Length;
            }
            plans.Add(new DiskPlan(disk.Disk, disk.ChangedOnly, bytes, disk.Reason));
        }
        plans.AddRange(capture.SkippedDisks.Select(disk => new DiskPlan(disk, false, 0, disk.SkipReason!)));
        return new CapturePlan(plans, FleeceBytesMax: 0, FleeceBytesFree: 0);
    }

    public async ValueTask<ICapture> BeginCaptureAsync(CaptureRequest request, CancellationToken cancellationToken)
    {
        var machine = Find(request.Machine);
        if (request.ChangedExtents.Keys.FirstOrDefault(name => machine.Images.All(image => image.Name != name)) is { } unknown)
        {
            throw new FaultException(FaultReason.InvalidArgument, $"Changed extents were given for disk '{unknown}', which {machine.Name} does not have. It has {string.Join(", ", machine.Images.Select(image => image.Name))}.");
        }
        ReplacementJournal.Recover(machine.Images.Select(image => image.Path));
        foreach (var image in machine.Images.Where(image => !request.ExcludedDisks.Contains(image.Name)))
        {
            InPlaceMark.RequireNone(image.Path, tools.StateFolder);
        }
        var folder = PrivateTemporaryFolder();
        var disks = new List<ImageCapturedDisk>();
        var skipped = new List<DiskSummary>();
        try
        {
            foreach (var (number, image) in machine.Images.Index())
            {
                var summary = new DiskSummary(image.IdFor(machine.Uuid), image.Name, await inspector.ReadLengthAsync(image, cancellationToken), image.Format, null);
                if (request.ExcludedDisks.Contains(image.Name))
                {
                    skipped.Add(summary with { SkipReason = "excluded" });
                    continue;
                }
                var told = request.Base is not null && request.ChangedExtents.TryGetValue(image.Name, out var extents) ? extents : null;
                var reason = told is not null ? "changed blocks only, as told by the caller"
                    : request.ChangedExtents.ContainsKey(image.Name) ? "full: changes were told, but this agent has no earlier recovery point to apply them to"
                    : "full: image files have no change tracking";
                var layers = await inspector.ReadLayersAsync(image, cancellationToken);
                disks.Add(await ImageCapturedDisk.OpenAsync(image, layers, summary, told, reason, Path.Combine(folder, $"{number}.sock"), tools, cancellationToken));
            }
            if (request.Gate is not null)
            {
                await request.Gate.PassThroughAsync(cancellationToken);
            }
            return new ImageCapture(Describe(machine, disks), disks, skipped, folder);
        }
        catch
        {
            foreach (var disk in disks)
            {
                await disk.DisposeAsync();
            }
            Directory.Delete(folder, recursive: true);
            throw;
        }
    }

    public ValueTask<IRestoreTarget?> FindTargetAsync(RestoreRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        // Where existing disks are written, each lies where it is: no one path could be measured.
        return ValueTask.FromResult<IRestoreTarget?>(request.Placement == RestorePlacement.NewFolder ? new FolderTarget(TargetStorage.Of(request.Folder)) : null);
    }

    public async ValueTask<IReadOnlyList<RestoreFinding>> CheckRestoreAsync(RestoreRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        return request.Placement == RestorePlacement.NewFolder
            ? ImageRestore.Check(request) : await new ConfiguredImages(machines, tools, inspector).CheckAsync(request, cancellationToken);
    }

    public async ValueTask<IRestore> BeginRestoreAsync(RestoreRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        if (request.Placement != RestorePlacement.NewFolder)
        {
            return await new ConfiguredImages(machines, tools, inspector).BeginAsync(request, cancellationToken);
        }
        var blocked = FindingMessages.OfObstacles(ImageRestore.Check(request));
        return blocked.Length == 0
            ? await ImageRestore.BeginAsync(request, tools, cancellationToken)
            : throw new FaultException(FaultReason.FailedPrecondition, $"The machine {request.Name} cannot be restored here: {blocked}");
    }

    private static string PrivateTemporaryFolder() => Directory.CreateTempSubdirectory("virtbackup-image-").FullName;

    private static MachineConfiguration Describe(ImageMachine machine, IEnumerable<ImageCapturedDisk> disks)
    {
        var neutral = ImageDescription.Write(machine.Name, machine.Uuid, disks.Select(disk => new DescribedImage(
            disk.Disk.Id, disk.Disk.Name, machine.Images.First(image => image.Name == disk.Disk.Name).Path, disk.Disk.Format, disk.Disk.LengthBytes)));
        return new MachineConfiguration(machine.Name, neutral, "none", default);
    }

    private ImageMachine Find(Id16 id) => machines.FirstOrDefault(machine => machine.Uuid == id)
        ?? throw new FaultException(FaultReason.NotFound, $"No image machine {id.ToUuidString()} is configured on this host.");
}
