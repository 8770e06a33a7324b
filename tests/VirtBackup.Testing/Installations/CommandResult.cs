using System.Text.Json;
using VirtBackup.Testing.Lab;

namespace VirtBackup.Testing.Installations;

/// <summary>What a run of <c>virtbackup</c> left.</summary>
public sealed record CommandResult(string Command, int ExitCode, string Stdout, string Stderr)
{
    /// <summary>The messages of the failures that standard error tells as JSON, a line each.</summary>
    public IReadOnlyList<string> Errors =>
        [.. ErrorLines().Select(line => MemberOf(line, "message") ?? throw new LabException($"The error has no message: {line}"))];

    /// <summary>What the failures say is to be done next; empty where they say nothing.</summary>
    public string NextSteps => string.Join('\n', ErrorLines().Select(line => MemberOf(line, "next")));

    /// <summary>The JSON on standard output of a command that must have succeeded.</summary>
    public JsonElement Json => EnsureSuccess().AnyJson;

    /// <summary>The JSON on standard output, whatever the exit code.</summary>
    public JsonElement AnyJson
    {
        get
        {
            using var document = JsonDocument.Parse(Stdout);
            return document.RootElement.Clone();
        }
    }

    public CommandResult EnsureSuccess() => ExitCode == 0
        ? this
        : throw new LabException($"'virtbackup {Command}' ended with exit code {ExitCode}.\n{Stderr}{Stdout}");

    private IEnumerable<string> ErrorLines() => Stderr.Split('\n').Where(line => line.StartsWith("{\"error\":", StringComparison.Ordinal));

    private static string? MemberOf(string line, string name)
    {
        using var document = JsonDocument.Parse(line);
        return document.RootElement.GetProperty("error").TryGetProperty(name, out var member) ? member.GetString() : null;
    }
}
