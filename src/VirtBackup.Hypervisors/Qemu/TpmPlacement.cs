using VirtBackup.Hypervisors.Images;
using VirtBackup.Hypervisors.Tpm;

namespace VirtBackup.Hypervisors.Qemu;

/// <summary>The TPM of a restored machine.</summary>
/// <param name="Folder">Where its state goes.</param>
/// <param name="Bytes">Empty while a restore is only checked.</param>
/// <param name="Socket">Where its emulator will listen, and where the stored command line says.</param>
/// <param name="Command">How the emulator is started, without the program; null: by whoever has the key of its state.</param>
internal sealed record TpmPlacement(string Folder, ReadOnlyMemory<byte> Bytes, (string Old, string New) Socket, IReadOnlyList<string>? Command)
{
    /// <summary>The files of the state, where they go in the place of others.</summary>
    public IEnumerable<ContentFile> Files => TpmState.Read(Bytes).Files.Select(file => new ContentFile(Path.Combine(Folder, file.Name), file.Bytes, IsSecret: true));

    /// <summary>Writes the state into a new folder.</summary>
    public void Write() => TpmStateFolder.Write(Folder, TpmState.Read(Bytes));

    /// <param name="content">The stored state.</param>
    /// <returns>Null: it cannot be recreated, as the findings say.</returns>
    public static TpmPlacement? Plan(RestoreRequest request, ArgvDocument document, MachineContent content, List<RestoreFinding> findings)
    {
        if (document.Tpm is not { } stored || TpmDevice.Find(Argv.Parse(document.Arguments)) is not { Socket: { } socket })
        {
            findings.Add(new RestoreFinding("tpm", FindingSeverity.Adapts, $"The stored state of the TPM {content.Name} cannot be recreated: the configuration does not know it."));
            return null;
        }
        var old = Path.GetFullPath(socket, document.WorkingDirectory);
        var moves = request.Placement == RestorePlacement.NewFolder;
        var (folder, place) = moves ? (Path.Combine(request.Folder, "tpm"), Path.Combine(request.Folder, "tpm.sock")) : (stored.StateFolder, old);
        findings.Add(FindObstacle(request, stored, folder, place) is { } obstacle
            ? new RestoreFinding("tpm", FindingSeverity.Blocks, obstacle)
            : new RestoreFinding("tpm", FindingSeverity.Fits, $"The TPM's state is in the recovery point and is restored to {folder}{(IsKeyAtHand(stored) ? $"; {TpmEmulator.Program} is started on it with the machine" : "")}."));
        if (!IsKeyAtHand(stored))
        {
            findings.Add(new RestoreFinding("tpm", FindingSeverity.Adapts,
                $"The TPM's state is encrypted with a key that whoever started {TpmEmulator.Program} handed over: start it with that key on {folder}, listening at {place}, before the machine."));
        }
        return new TpmPlacement(folder, content.Bytes, (old, place), IsKeyAtHand(stored) ? TpmEmulatorCommand.For(stored.Arguments, folder, place, keepsUser: !moves) : null);
    }

    /// <summary>Of a machine that came here, whose TPM stays where it is: for whoever starts it anew.</summary>
    /// <returns>Null: it has none.</returns>
    public static TpmPlacement? WhereItIs(ArgvDocument document)
    {
        if (document.Tpm is not { } stored || TpmDevice.Find(Argv.Parse(document.Arguments)) is not { Socket: { } socket })
        {
            return null;
        }
        var place = Path.GetFullPath(socket, document.WorkingDirectory);
        return new TpmPlacement(stored.StateFolder, default, (place, place), IsKeyAtHand(stored) ? TpmEmulatorCommand.For(stored.Arguments, stored.StateFolder, place, keepsUser: false) : null);
    }

    private static string? FindObstacle(RestoreRequest request, ArgvTpm stored, string folder, string socket)
    {
        if (ProgramPath.Find(TpmEmulator.Program) is null)
        {
            return $"The machine has an emulated TPM, and {TpmEmulator.Program} is not installed on this host. Install it (package {TpmEmulator.Program}).";
        }
        if (TpmEmulatorCommand.KeyFileOf(stored.Arguments) is { Length: > 0 } key && !File.Exists(key))
        {
            return $"The TPM's state is encrypted, and its key file {key} is not on this host. Bring it here first.";
        }
        if (!IsKeyAtHand(stored) && request.Start)
        {
            return $"The TPM's state is encrypted with a key that was handed to {TpmEmulator.Program} when it was started, so that the machine cannot be started here. Restore it without starting it (--no-start).";
        }
        return request.Placement != RestorePlacement.NewFolder && (TpmEmulator.FindBySocket(socket) ?? TpmEmulator.FindByFolder(candidate => candidate == folder)) is { } running
            ? $"The machine's TPM emulator still runs (process {running.Pid}), and would write over the restored state. Stop it first." : null;
    }

    private static bool IsKeyAtHand(ArgvTpm stored) => TpmEmulatorCommand.KeyFileOf(stored.Arguments) is not "";
}
