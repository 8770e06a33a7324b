using VirtBackup.Core;
using VirtBackup.Hypervisors.Guests;
using VirtBackup.Hypervisors.Libvirt.Native;
using VirtBackup.Hypervisors.State;

namespace VirtBackup.Hypervisors.Libvirt;

/// <summary>Gives the machine of a restore to libvirt: defines it, starts it, lets its guest go on, and describes what came of it.</summary>
internal sealed class DomainActivation(LibvirtContext context, RestoreRequest request, LibvirtRestorePlan plan)
{
    private static readonly TimeSpan ToolTimeout = TimeSpan.FromSeconds(30);
    private static readonly TimeSpan ThawTimeout = TimeSpan.FromSeconds(20);
    private static readonly TimeSpan ThawInterval = TimeSpan.FromMilliseconds(500);

    private LibvirtConnection Connection => plan.Connection;

    private bool HasAgent => DomainAgent.FindChannel(plan.Xml is { } xml ? BoundedXml.Parse(xml, "domain") : plan.Existing!.View.Document.Root) is not null;

    public Task DefineAsync(string xml, CancellationToken cancellationToken) => Connection.ChangeAsync(libvirt =>
    {
        using var domain = LibvirtValues.Require(LibvirtCalls.Define(libvirt, xml, 0));
        return true;
    }, cancellationToken);

    /// <summary>Not cancellable: a machine that started unnoticed would run on disks that are taken away.</summary>
    public async Task StartAsync()
    {
        if (plan.State is { } state)
        {
            await ResumeAsync(state);
            return;
        }
        await Connection.ChangeAsync(libvirt =>
        {
            using var domain = Domains.Find(libvirt, plan.Uuid);
            return LibvirtValues.Require(LibvirtCalls.Start(domain));
        }, CancellationToken.None);
    }

    private async Task ResumeAsync(StateFiles state)
    {
        var image = Path.Combine(state.Place, "image");
        try
        {
            await using (var stored = await state.OpenAsync(CancellationToken.None))
            await using (var target = new FileStream(image, FileMode.CreateNew, FileAccess.Write, FileShare.None, bufferSize: 1 << 20, useAsync: true))
            {
                await stored.WriteAsync(target, CancellationToken.None);
            }
        }
        catch (Exception failure) when (failure is IOException or UnauthorizedAccessException)
        {
            throw new FaultException(FaultReason.FailedPrecondition, $"The running state could not be written for libvirt to {image}: {failure.Message}", failure);
        }
        await HandOverAsync([state.Place], CancellationToken.None);
        await DomainSave.StartAsync(Connection, image, plan.Xml ?? plan.Existing!.View.Xml);
    }

    public Task<bool> IsActiveAsync() => Connection.QueryAsync(libvirt => Domains.IsActive(libvirt, plan.Uuid), CancellationToken.None);

    /// <summary>Gives files to the user of a session's machines. libvirt itself gives those of a system to QEMU's user when the machine starts.</summary>
    public async Task HandOverAsync(IEnumerable<string> paths, CancellationToken cancellationToken)
    {
        if (await LibvirtUri.FindSocketOwnerAsync(Connection.Uri, context.Processes, cancellationToken) is { User: not 0 } owner)
        {
            await context.Processes.RequireAsync("chown", ["-R", $"{owner.User}:{owner.Group}", .. paths], ToolTimeout, cancellationToken);
        }
    }

    /// <summary>The machine as it is now. It is complete: that it cannot be looked at any more changes nothing, and nothing here throws.</summary>
    public async Task<RestoredMachine> FinishAsync(bool started, CancellationToken cancellationToken)
    {
        var details = new Dictionary<string, string>(StringComparer.Ordinal) { ["connection"] = Connection.Uri };
        if (request.Folder.Length > 0)
        {
            details["folder"] = request.Folder;
        }
        foreach (var image in plan.Images)
        {
            details[$"disk {image.Target}"] = image.Path;
        }
        if (plan.Variables is { } variables)
        {
            details["firmware variables"] = variables.Path;
        }
        if (plan.State is not null)
        {
            details["running state"] = "the machine went on from that of the recovery point";
        }
        if (started && await ThawAsync(cancellationToken) is { } thaw)
        {
            details["thaw"] = thaw;
        }
        var machine = new RestoredMachine(plan.Uuid, plan.Name, started, details)
        {
            Guest = started && HasAgent
                ? new RestoredGuest((_, _) => Task.FromResult<IGuestAgent>(new DomainAgent(Connection, plan.Uuid, context.Time)), context.Time) : null,
        };
        try
        {
            await Connection.QueryAsync(libvirt =>
            {
                StoragePools.Refresh(libvirt, plan.Folders);
                return true;
            }, CancellationToken.None);
            var view = await Connection.QueryAsync(libvirt =>
            {
                using var domain = Domains.Find(libvirt, plan.Uuid);
                return Domains.Read(domain, new HashSet<string>());
            }, CancellationToken.None);
            return machine with { CapturedDescription = DomainDescription.OfStored(request.Configuration), Description = DomainDescription.Of(view) };
        }
        catch (FaultException)
        {
            return machine;
        }
    }

    // A guest that was frozen for the cut may have kept that state on its disk: its agent then refuses everything but a thaw.
    private async Task<string?> ThawAsync(CancellationToken cancellationToken)
    {
        if (!HasAgent)
        {
            return null;
        }
        await using var agent = new DomainAgent(Connection, plan.Uuid, context.Time);
        var begun = context.Time.GetTimestamp();
        try
        {
            while (true)
            {
                try
                {
                    var thawed = await agent.ThawAsync(ThawTimeout, cancellationToken);
                    return $"sent, {thawed} file systems were frozen";
                }
                catch (FaultException failure)
                {
                    if (context.Time.GetElapsedTime(begun) > context.Options.GuestStartTimeout)
                    {
                        return $"not confirmed: {failure.Message}";
                    }
                }
                await Task.Delay(ThawInterval, context.Time, cancellationToken);
            }
        }
        catch (OperationCanceledException)
        {
            return "not confirmed: the restore was cancelled";
        }
    }
}
