using System.Text.Json;
using VirtBackup.Core;
using VirtBackup.Hypervisors.Images;
using VirtBackup.Hypervisors.Libvirt.Native;

namespace VirtBackup.Hypervisors.Libvirt;

/// <summary>A machine being restored into a folder of its own, and into libvirt. Nothing is left of one that fails.</summary>
internal sealed class LibvirtRestore : IRestore
{
    private const uint UndefineVariables = 4; // VIR_DOMAIN_UNDEFINE_NVRAM
    private static readonly TimeSpan ToolTimeout = TimeSpan.FromSeconds(30);
    private readonly LibvirtContext context;
    private readonly RestoreRequest request;
    private readonly LibvirtRestorePlan plan;
    private readonly NewImages images;

    private LibvirtRestore(LibvirtContext context, RestoreRequest request, LibvirtRestorePlan plan, NewImages images)
    {
        this.context = context;
        this.request = request;
        this.plan = plan;
        this.images = images;
    }

    public IReadOnlyList<IRestoredDisk> Disks => images.Disks;

    public static async Task<IRestore> BeginAsync(LibvirtContext context, RestoreRequest request, LibvirtRestorePlan plan, CancellationToken cancellationToken) =>
        new LibvirtRestore(context, request, plan, await NewImages.CreateAsync(request, [.. plan.Images.Select(image => image.Path)], context.ImageTools, cancellationToken));

    public async ValueTask<RestoredMachine> CompleteAsync(CancellationToken cancellationToken)
    {
        await images.FinishAsync(cancellationToken);
        await HandOverAsync(cancellationToken);
        images.Flush();
        try
        {
            await plan.Tpm.WriteAsync(plan.Uuid, cancellationToken);
            await DefineAsync(cancellationToken);
        }
        catch
        {
            plan.Tpm.Undo();
            throw;
        }
        images.Keep();
        var details = new Dictionary<string, string>(StringComparer.Ordinal) { ["folder"] = request.Folder, ["connection"] = plan.Connection.Uri };
        foreach (var image in plan.Images)
        {
            details[$"disk {image.Target}"] = image.Path;
        }
        return new RestoredMachine(plan.Uuid, request.Name, request.Start, details) { Description = await DescribeAsync() };
    }

    // The machine is complete: that it cannot be described any more changes nothing.
    private async Task<JsonElement?> DescribeAsync()
    {
        try
        {
            var view = await plan.Connection.QueryAsync(libvirt =>
            {
                using var domain = Domains.Find(libvirt, plan.Uuid);
                return Domains.Read(domain, new HashSet<string>());
            }, CancellationToken.None);
            return LibvirtDescriber.Describe(view).Neutral;
        }
        catch (FaultException)
        {
            return null;
        }
    }

    // libvirt gives the images to QEMU's user when the machine starts, but not the way to them. A session's user owns all.
    private async Task HandOverAsync(CancellationToken cancellationToken)
    {
        if (!OperatingSystem.IsWindows())
        {
            File.SetUnixFileMode(request.Folder, File.GetUnixFileMode(request.Folder) | UnixFileMode.GroupExecute | UnixFileMode.OtherExecute);
        }
        if (await LibvirtUri.FindSocketOwnerAsync(plan.Connection.Uri, context.Processes, cancellationToken) is { User: not 0 } owner)
        {
            await context.Processes.RequireAsync("chown", ["-R", $"{owner.User}:{owner.Group}", request.Folder], ToolTimeout, cancellationToken);
        }
    }

    private async Task DefineAsync(CancellationToken cancellationToken)
    {
        await plan.Connection.ChangeAsync(libvirt =>
        {
            using var domain = LibvirtValues.Require(LibvirtCalls.Define(libvirt, plan.Xml, 0));
            return true;
        }, cancellationToken);
        try
        {
            await plan.Connection.ChangeAsync(libvirt =>
            {
                RefreshPool(libvirt);
                using var domain = Domains.Find(libvirt, plan.Uuid);
                return request.Start ? LibvirtValues.Require(LibvirtCalls.Start(domain)) : 0;
            }, cancellationToken);
        }
        catch (Exception failure) when (failure is FaultException or OperationCanceledException)
        {
            await UndefineAsync();
            throw failure is FaultException fault
                ? new FaultException(fault.Reason, $"The disks of {request.Name} were written, but the machine did not start, and was removed again. {fault.Message}", fault) : failure;
        }
    }

    /// <summary>A pool whose folder this is lists the new images at once; that it cannot is of no consequence.</summary>
    private void RefreshPool(ConnectionHandle libvirt)
    {
        using var pool = LibvirtCalls.FindPool(libvirt, request.Folder.TrimEnd('/'));
        if (!pool.IsInvalid)
        {
            _ = LibvirtCalls.Refresh(pool, 0);
        }
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

    public ValueTask DisposeAsync() => images.DisposeAsync();
}
