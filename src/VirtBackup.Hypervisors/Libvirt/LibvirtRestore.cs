using VirtBackup.Core;
using VirtBackup.Hypervisors.Images;
using VirtBackup.Hypervisors.Libvirt.Native;
using VirtBackup.Hypervisors.Moving;

namespace VirtBackup.Hypervisors.Libvirt;

/// <summary>A machine being restored into a folder of its own, and into libvirt. Nothing is left of one that fails.</summary>
internal sealed class LibvirtRestore : IRestore
{
    private const uint UndefineVariables = 4; // VIR_DOMAIN_UNDEFINE_NVRAM
    private readonly RestoreRequest request;
    private readonly LibvirtRestorePlan plan;
    private readonly NewImages images;
    private readonly DomainActivation activation;
    private bool started;
    /// <summary>It runs, or is known to be here: neither it nor its disks may go any more.</summary>
    private bool isLeft;

    private readonly Adoption? adoption;

    private LibvirtRestore(LibvirtContext context, RestoreRequest request, LibvirtRestorePlan plan, NewImages images, Adoption? adoption)
    {
        this.adoption = adoption;
        this.request = request;
        this.plan = plan;
        this.images = images;
        activation = new DomainActivation(context, request, plan);
    }

    public IReadOnlyList<IRestoredDisk> Disks => images.Disks;

    public static async Task<IRestore> BeginAsync(LibvirtContext context, RestoreRequest request, LibvirtRestorePlan plan, CancellationToken cancellationToken)
    {
        var adoption = request.Adopt ? new Adoption(context.Moving, request) : null;
        adoption?.Begin(new AdoptedMachine(request.Machine.ToString(), request.Name, request.Folder, Complete: false, "", null, "", "", null, []));
        try
        {
            return new LibvirtRestore(context, request, plan, await NewImages.CreateAsync(request, [.. plan.Images.Select(image => image.Path)], context.ImageTools, cancellationToken), adoption);
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
        if (plan.Variables is { } variables)
        {
            DurableFile.WritePrivate(variables.Path, variables.Bytes.Span);
        }
        await HandOverAsync(cancellationToken);
        images.Flush();
        try
        {
            await plan.Tpm!.WriteAsync(cancellationToken);
            await DefineAsync(cancellationToken);
        }
        catch when (!isLeft)
        {
            plan.Tpm!.Undo();
            throw;
        }
        images.Keep();
        return await activation.FinishAsync(started, cancellationToken);
    }

    // libvirt gives the images to QEMU's user when the machine starts, but not the way to them. A session's user owns all.
    private async Task HandOverAsync(CancellationToken cancellationToken)
    {
        if (!OperatingSystem.IsWindows())
        {
            File.SetUnixFileMode(request.Folder, File.GetUnixFileMode(request.Folder) | UnixFileMode.GroupExecute | UnixFileMode.OtherExecute);
        }
        await activation.HandOverAsync([request.Folder], cancellationToken);
    }

    private async Task DefineAsync(CancellationToken cancellationToken)
    {
        await activation.DefineAsync(plan.Xml!, cancellationToken);
        try
        {
            cancellationToken.ThrowIfCancellationRequested();
            if (await MayStartAsync(cancellationToken))
            {
                started = true;
                await activation.StartAsync();
                Leave();
            }
            // Of the disks of a machine that runs nothing is remembered: it writes to them.
            adoption?.Complete(started ? [] : [.. plan.Images.Select(image => image.Path)]);
        }
        catch (Exception failure) when (!isLeft && failure is (FaultException or OperationCanceledException or IOException or UnauthorizedAccessException))
        {
            if (adoption is { IsComplete: true })
            {
                // It is recorded all the same: it was made, and stays.
                Leave();
                throw;
            }
            await UndefineAsync();
            var problem = request.Start ? "did not start" : "could not be taken over";
            throw failure is FaultException fault
                ? new FaultException(fault.Reason, $"The disks of {request.Name} were written, but the machine {problem}, and was removed again. {fault.Message}", fault) : failure;
        }
    }

    // The wait may be long, and nothing keeps anybody from starting the machine meanwhile: neither it nor its disks must go then.
    private async Task<bool> MayStartAsync(CancellationToken cancellationToken)
    {
        bool starts;
        try
        {
            starts = await request.MayStartAsync(cancellationToken);
        }
        finally
        {
            if (request.StartGate is not null && await activation.IsActiveAsync())
            {
                Leave();
            }
        }
        return !isLeft ? starts : throw new FaultException(FaultReason.FailedPrecondition,
            $"The machine {request.Name} was started by somebody else while its start waited. It runs on its restored disks.");
    }

    private void Leave()
    {
        isLeft = true;
        images.Keep();
    }

    private async Task UndefineAsync()
    {
        try
        {
            await plan.Connection.ChangeAsync(libvirt =>
            {
                using var domain = Domains.TryFind(libvirt, plan.Uuid);
                return domain is null || LibvirtCalls.Undefine(domain, 0) == 0 ? 0 : LibvirtValues.Require(LibvirtCalls.Undefine(domain, UndefineVariables));
            }, CancellationToken.None);
        }
        catch (FaultException)
        {
            // The first failure tells more; libvirt lists the machine, whose disks are gone.
        }
    }

    public async ValueTask DisposeAsync()
    {
        await images.DisposeAsync();
        adoption?.Withdraw();
    }
}
