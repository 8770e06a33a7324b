using VirtBackup.Core;
using VirtBackup.Hypervisors.Images;
using VirtBackup.Hypervisors.Qemu.Moving;

namespace VirtBackup.Hypervisors.Qemu;

/// <summary>A machine being restored into a folder of its own.</summary>
internal sealed class QemuRestore : IRestore
{
    private readonly QemuDriverContext context;
    private readonly RestoreRequest request;
    private readonly RestorePlan plan;
    private readonly NewImages images;
    private readonly QemuAdoption? adoption;

    private QemuRestore(QemuDriverContext context, RestoreRequest request, RestorePlan plan, NewImages images, QemuAdoption? adoption)
    {
        this.adoption = adoption;
        this.context = context;
        this.request = request;
        this.plan = plan;
        this.images = images;
    }

    public IReadOnlyList<IRestoredDisk> Disks => images.Disks;

    public static async Task<IRestore> BeginAsync(QemuDriverContext context, RestoreRequest request, RestorePlan plan, CancellationToken cancellationToken)
    {
        // Images and monitor sockets are nobody else's business.
        if (OperatingSystem.IsWindows())
        {
            throw new FaultException(FaultReason.Unsupported, "QEMU machines are restored on Linux only.");
        }
        var adoption = request.Adopt ? new QemuAdoption(context, request, plan) : null;
        adoption?.Begin();
        try
        {
            return new QemuRestore(context, request, plan, await NewImages.CreateAsync(request, [.. plan.Images.Select(image => image.NewFile)], plan.ListOthers(request), context.ImageTools, cancellationToken), adoption);
        }
        catch
        {
            adoption?.Withdraw();
            throw;
        }
    }

    public async ValueTask<RestoredMachine> CompleteAsync(CancellationToken cancellationToken)
    {
        await images.FinishAsync(cancellationToken);
        foreach (var flash in plan.Flash)
        {
            DurableFile.Write(flash.File.NewFile, flash.Bytes.Span);
        }
        plan.Tpm?.Write();
        var launcher = new MachineLauncher(context, plan, request);
        launcher.WriteRecord();
        images.Flush();
        var starts = await MayStartAsync(cancellationToken);
        try
        {
            adoption?.Complete();
        }
        catch when (adoption!.IsComplete)
        {
            images.Keep();
            throw;
        }
        // From here on a failure concerns starting only: the disks are whole and stay.
        images.Keep();
        int? pid = starts ? await launcher.StartAsync(cancellationToken) : null;
        return await new RestoredDescription(context, plan, request).AddAsync(launcher.Describe(pid), launcher, cancellationToken);
    }

    // The wait may be long, and nothing keeps anybody from starting the machine by its script: its disks must not go then.
    private async Task<bool> MayStartAsync(CancellationToken cancellationToken)
    {
        try
        {
            return await request.MayStartAsync(cancellationToken);
        }
        finally
        {
            if (request.StartGate is not null && await ImageLock.IsAnyHeldAsync(plan.Images.Select(image => image.NewFile), context.ImageTools, CancellationToken.None))
            {
                images.Keep();
            }
        }
    }

    public async ValueTask DisposeAsync()
    {
        await images.DisposeAsync();
        adoption?.Withdraw();
    }
}
