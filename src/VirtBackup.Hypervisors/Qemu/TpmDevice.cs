using VirtBackup.Core;
using VirtBackup.Hypervisors.Tpm;

namespace VirtBackup.Hypervisors.Qemu;

/// <summary>The emulator behind a machine's TPM, as it ran at the cut: what it takes to start another one on the same state.</summary>
/// <param name="Arguments">Without the program. They may name files with keys, never hold keys.</param>
internal sealed record ArgvTpm(string StateFolder, IReadOnlyList<string> Arguments);

/// <summary>The TPM of a command line; QEMU has at most one.</summary>
/// <param name="Kind"><c>emulator</c>, <c>passthrough</c>, or another one.</param>
/// <param name="Option">The text of <c>-tpmdev</c>.</param>
/// <param name="Socket">Of an emulator: its control socket, as the option names it.</param>
internal sealed record TpmDevice(string Name, string? Kind, OptionText Option, string? Socket)
{
    /// <summary>Null: the machine has none.</summary>
    public static TpmDevice? Find(IReadOnlyList<ArgvOption> options)
    {
        if (options.FirstOrDefault(option => option is { Name: "tpmdev", Value: not null }).Value is not { } value)
        {
            return null;
        }
        var text = OptionText.Parse(value);
        var kind = text["type"] ?? text.Head;
        var socket = kind != "emulator" || text["chardev"] is not { } channel ? null
            : options.Where(option => option is { Name: "chardev", Value: not null }).Select(option => OptionText.Parse(option.Value!)).FirstOrDefault(device => device["id"] == channel)?["path"];
        return new TpmDevice(text["id"] ?? "tpm", kind, text, socket);
    }

    /// <summary>Of its content in a recovery point.</summary>
    public Id16 ContentId(Id16 machine) => CaptureNames.DiskId(machine, $"tpmdev {Name}");

    /// <summary>The emulator that serves it now; null: none that can be seen.</summary>
    public TpmEmulator? FindEmulator(string workingDirectory) => Socket is null ? null
        : TpmEmulator.FindBySocket(Path.GetFullPath(Socket, workingDirectory)) ?? TpmEmulator.FindBySocket(Socket);

    /// <summary>What a capture stores of it.</summary>
    /// <returns>Null: the machine has none.</returns>
    public static TpmMemory? MemoryOf(Id16 machine, ArgvDocument document, Action<string> log)
    {
        if (Find(Argv.Parse(document.Arguments)) is not { } device)
        {
            return null;
        }
        var problem = document.Tpm is not null ? null : device.Kind != "emulator" ? $"it is no emulated TPM but '{device.Kind}'"
            : $"no {TpmEmulator.Program} with its state in a folder was found behind {device.Socket}: it must run on this host, and the agent as root or as its user";
        return new TpmMemory(device.ContentId(machine), device.Name, document.Tpm?.StateFolder, problem, log);
    }
}
