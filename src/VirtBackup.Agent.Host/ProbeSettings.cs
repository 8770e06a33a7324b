using System.Buffers;
using VirtBackup.Agent.Restore.Starting;
using VirtBackup.Core;

namespace VirtBackup.Agent.Host;

/// <summary>A command that readiness probes may name, as <c>probes</c> of agent.yaml says.</summary>
public sealed class ProbeSettings
{
    private const int NameCharsMax = 64;
    private static readonly SearchValues<char> NameChars = SearchValues.Create("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-");

    public string? Name { get; set; }

    /// <summary>Absolute path of the program, then its arguments. No shell reads it.</summary>
    public List<string> Command { get; set; } = [];

    /// <summary>Run in the guest, by its agent; otherwise on this host.</summary>
    public bool InGuest { get; set; }

    public int TimeoutSeconds { get; set; } = 30;

    /// <exception cref="FaultException">An entry holds something that cannot be.</exception>
    internal static IReadOnlyDictionary<string, ProbeCommand> ToCommands(IReadOnlyList<ProbeSettings?> entries, string path)
    {
        FaultException Wrong(string what) => new(FaultReason.InvalidArgument, $"{path}: probes: {what}");
        var commands = new Dictionary<string, ProbeCommand>(StringComparer.Ordinal);
        foreach (var entry in entries)
        {
            if (entry?.Name is not { Length: > 0 and <= NameCharsMax } name || name.AsSpan().ContainsAnyExcept(NameChars))
            {
                throw Wrong($"every entry needs a name of 1 to {NameCharsMax} letters, digits, dots, dashes and underscores ('{entry?.Name}').");
            }
            var hook = new HookSettings { Command = entry.Command, TimeoutSeconds = entry.TimeoutSeconds };
            if (hook.FindProblem(name) is { } problem)
            {
                throw Wrong(problem);
            }
            if (!entry.InGuest && (!Path.IsPathRooted(entry.Command[0]) || entry.Command[0].Contains('=')))
            {
                throw Wrong($"{name}: the program must be an absolute path without '='.");
            }
            if (!commands.TryAdd(name, new ProbeCommand(hook.ToCommand(), entry.InGuest)))
            {
                throw Wrong($"the name '{name}' is used twice.");
            }
        }
        return commands;
    }
}
