using VirtBackup.Core;
using VirtBackup.Hypervisors.Images;

namespace VirtBackup.Hypervisors.Qemu;

/// <summary>A machine being restored into a folder of its own.</summary>
internal sealed class QemuRestore : IRestore
{
    private readonly QemuDriverContext context;
    private readonly RestoreRequest request;
    private readonly RestorePlan plan;
    private readonly List<ImageWriter> disks = [];
    private bool folderExisted;
    private bool completed;

    private QemuRestore(QemuDriverContext context, RestoreRequest request, RestorePlan plan)
    {
        this.context = context;
        this.request = request;
        this.plan = plan;
    }

    public IReadOnlyList<IRestoredDisk> Disks => disks;

    public static async Task<IRestore> BeginAsync(QemuDriverContext context, RestoreRequest request, RestorePlan plan, CancellationToken cancellationToken)
    {
        var restore = new QemuRestore(context, request, plan);
        try
        {
            restore.folderExisted = Directory.Exists(request.Folder);
            CreatePrivate(request.Folder);
            for (var i = 0; i < request.Disks.Count; i++)
            {
                restore.disks.Add(await ImageWriter.CreateAsync(request.Disks[i], plan.Images[i].NewFile, Path.Combine(request.Folder, $"image-{i}.sock"),
                    request.Preallocation, context.ImageTools, cancellationToken));
            }
            return restore;
        }
        catch (Exception failure)
        {
            await restore.DisposeAsync();
            throw failure is IOException or UnauthorizedAccessException
                ? new FaultException(FaultReason.FailedPrecondition, $"The folder {request.Folder} cannot be used: {failure.Message}", failure)
                : failure;
        }
    }

    // Images and monitor sockets are nobody else's business.
    private static void CreatePrivate(string folder)
    {
        if (OperatingSystem.IsWindows())
        {
            throw new FaultException(FaultReason.Unsupported, "QEMU machines are restored on Linux only.");
        }
        PrivateFolder.Create(folder);
    }

    public async ValueTask<RestoredMachine> CompleteAsync(CancellationToken cancellationToken)
    {
        foreach (var disk in disks)
        {
            await disk.FinishAsync(cancellationToken);
        }
        foreach (var flash in plan.Flash)
        {
            DurableFile.Write(flash.File.NewFile, flash.Bytes.Span);
        }
        var launcher = new MachineLauncher(context, plan, request);
        launcher.WriteRecord();
        DurableFolder.Flush(request.Folder);
        DurableFolder.Flush(Path.GetDirectoryName(request.Folder.TrimEnd('/'))!);
        // From here on a failure concerns starting only: the disks are whole and stay.
        completed = true;
        int? pid = request.Start ? await launcher.StartAsync(cancellationToken) : null;
        return await new RestoredDescription(context, plan, request)
            .AddAsync(new RestoredMachine(plan.Launch.Uuid, request.Name, pid is not null, launcher.Details(pid)), launcher, cancellationToken);
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
        foreach (var file in Directory.EnumerateFiles(request.Folder))
        {
            File.Delete(file);
        }
    }
}
