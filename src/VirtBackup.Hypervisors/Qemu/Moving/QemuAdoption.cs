using VirtBackup.Hypervisors.Images;
using VirtBackup.Hypervisors.Moving;
using VirtBackup.Hypervisors.State;

namespace VirtBackup.Hypervisors.Qemu.Moving;

/// <summary>What an adopted QEMU machine is known by: where its sockets and launch files are, and how it is started.</summary>
internal sealed class QemuAdoption(QemuDriverContext context, RestoreRequest request, RestorePlan plan)
{
    private readonly Adoption _adoption = new(context.Moving, request);

    /// <inheritdoc cref="Adoption.Begin"/>
    public void Begin()
    {
        var files = LaunchFiles.For(request, plan.Images);
        _adoption.Begin(new AdoptedMachine(request.Machine.ToString(), request.Name, request.Folder, Complete: false, plan.Launch.QmpSocket, plan.Launch.GuestAgentSocket, files.Script, files.Log, null, [],
            [.. NewImages.ListFiles(request, [.. plan.Images.Select(static image => image.NewFile)]), .. plan.ListOthers(request), StateFiles.PlaceIn(request.Folder, request.Machine)]));
    }

    /// <inheritdoc cref="Adoption.Complete"/>
    public void Complete()
    {
        var moved = plan.Images.Concat(plan.Flash.Select(flash => flash.File)).ToDictionary(image => image.OldFile, StringComparer.Ordinal);
        var disks = plan.Document.Disks.Select(disk => moved.TryGetValue(disk.File, out var image) ? disk with { File = image.NewFile, Format = image.Format } : disk);
        var tpm = plan.Tpm is { } placement && plan.Document.Tpm is { } stored ? stored with { StateFolder = placement.Folder } : plan.Document.Tpm;
        var document = new ArgvDocument(plan.Executable, plan.WorkingDirectory, plan.Launch.Arguments, [.. disks], plan.Launch.QmpSocket, plan.Launch.GuestAgentSocket, tpm);
        LastSeen.Write(context.Options.StateFolder, request.Machine, document.Write());
        _adoption.Complete([.. plan.Images.Select(image => image.NewFile)]);
    }

    /// <inheritdoc cref="Adoption.IsComplete"/>
    public bool IsComplete => _adoption.IsComplete;

    /// <inheritdoc cref="Adoption.Withdraw"/>
    public void Withdraw() => _adoption.Withdraw();
}
