using VirtBackup.Core;
using VirtBackup.Hypervisors.Images;
using VirtBackup.Hypervisors.Tpm;

namespace VirtBackup.Hypervisors.Libvirt;

/// <summary>
/// Puts the state of a domain's TPM where libvirt finds it when it starts the machine. libvirt then makes no state of its own, and
/// gives the files to the emulator's user.
/// </summary>
/// <param name="root">The machine's definition after the restore.</param>
/// <param name="machine">Its UUID after the restore.</param>
internal sealed class DomainTpmRestore(LibvirtContext context, LibvirtConnection connection, RestoreRequest request, System.Xml.Linq.XElement root, Id16 machine)
{
    private const UnixFileMode Passable = UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute | UnixFileMode.GroupExecute | UnixFileMode.OtherExecute;
    private static readonly TimeSpan ToolTimeout = TimeSpan.FromSeconds(30);
    private readonly DomainTpm? _tpm = DomainTpm.Find(request.Machine, root);
    private string? _folder;
    private string? _made;

    /// <summary>libvirt's folder for TPMs of the machine, when there is a state to put there.</summary>
    public string? Place => Content is not null && _folder is not null ? Path.GetDirectoryName(_folder) : null;

    /// <summary>The files of the state, in the place of those of a machine that is off.</summary>
    public IEnumerable<ContentFile> Files => Content is { } content && _folder is { } folder
        ? TpmState.Read(content.Bytes).Files.Select(file => new ContentFile(Path.Combine(folder, file.Name), file.Bytes, IsSecret: true)) : [];

    private MachineContent? Content => request.Contents.FirstOrDefault(content => content.Kind == MachineContentKind.Tpm);

    /// <summary>Whether the TPM can be as it was. Writes nothing.</summary>
    public async Task<RestoreFinding> CheckAsync(CancellationToken cancellationToken)
    {
        if (_tpm is null)
        {
            return Found(FindingSeverity.Fits, "The machine has no TPM.");
        }
        if (!_tpm.IsEmulated)
        {
            return Found(FindingSeverity.Adapts, $"The machine uses a TPM of its host ({_tpm.Kind}): that of this one has other keys, and what was sealed to the old one stays closed.");
        }
        if (ProgramPath.Find(TpmEmulator.Program) is null)
        {
            return Found(FindingSeverity.Blocks, $"The machine has an emulated TPM, and {TpmEmulator.Program} is not installed on this host. Install it (packages swtpm and swtpm-tools).");
        }
        if (Content is null)
        {
            return Found(FindingSeverity.Adapts, "The TPM's contents are not in the recovery point: secrets that are sealed to it (disk encryption) need their recovery keys.");
        }
        if ((_folder = await _tpm.FindFolderAsync(context, connection, machine, cancellationToken)) is null)
        {
            return Found(FindingSeverity.Blocks, $"It cannot be told where the libvirt behind {connection.Uri} keeps the state of TPMs. Run the agent as root or as the session's user.");
        }
        return _tpm.Secret is { } secret
            ? Found(FindingSeverity.Adapts, $"The TPM's state is in the recovery point, encrypted with libvirt's secret {secret}: this libvirt must have that secret when the machine starts.")
            : Found(FindingSeverity.Fits, $"The TPM's state is in the recovery point and is restored to {_folder}.");
    }

    /// <summary>Writes the state of a new machine, if there is one. After the check, before the machine is started.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.FailedPrecondition"/>: it cannot be written.</exception>
    public async Task WriteAsync(CancellationToken cancellationToken)
    {
        if (Content is not { } content || _folder is not { } folder || OperatingSystem.IsWindows())
        {
            return;
        }
        var place = Path.GetDirectoryName(folder)!;
        try
        {
            if (Directory.Exists(place))
            {
                // Left by a machine that is not defined any more: its keys may be the only ones.
                Directory.Move(place, $"{place}.replaced-{request.Point.ToString()[..8]}");
            }
            _made = place;
            Directory.CreateDirectory(place, Passable);
            TpmStateFolder.Write(folder, TpmState.Read(content.Bytes));
        }
        catch (Exception failure) when (failure is IOException or UnauthorizedAccessException)
        {
            throw new FaultException(FaultReason.FailedPrecondition, $"The TPM's state cannot be put to {folder}: {failure.Message}", failure);
        }
        if (await LibvirtUri.FindSocketOwnerAsync(connection.Uri, context.Processes, cancellationToken) is { User: not 0 } owner)
        {
            // Also the folder of all machines' TPMs, if this is the first.
            await context.Processes.RequireAsync("chown", [$"{owner.User}:{owner.Group}", Path.GetDirectoryName(place)!], ToolTimeout, cancellationToken);
            await context.Processes.RequireAsync("chown", ["-R", $"{owner.User}:{owner.Group}", place], ToolTimeout, cancellationToken);
        }
    }

    /// <summary>The machine is not to be: its state goes, too.</summary>
    public void Undo()
    {
        if (_made is not null && Directory.Exists(_made))
        {
            Directory.Delete(_made, recursive: true);
        }
    }

    private static RestoreFinding Found(FindingSeverity severity, string message) => new("tpm", severity, message);
}
