using VirtBackup.Cli.Output;
using VirtBackup.Core;

namespace VirtBackup.Cli;

/// <summary>What a command may touch of the world around it.</summary>
/// <param name="Terminal">The three standard streams.</param>
/// <param name="Interrupts">Ctrl-C and SIGTERM.</param>
/// <param name="Time">The clock.</param>
/// <param name="Entropy">Where keys come from.</param>
/// <param name="Variables">Environment variables by name.</param>
internal sealed record CliContext(Terminal Terminal, Interrupts Interrupts, TimeProvider Time, IEntropy Entropy, Func<string, string?> Variables)
{
    /// <summary>The user's home folder; empty for users without one.</summary>
    public string HomeFolder => Variables("HOME") is { Length: > 0 } home
        ? home
        : Environment.GetFolderPath(Environment.SpecialFolder.UserProfile);
}
