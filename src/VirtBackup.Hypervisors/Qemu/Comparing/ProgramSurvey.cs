using System.Collections.Concurrent;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using VirtBackup.Core;

namespace VirtBackup.Hypervisors.Qemu.Comparing;

/// <summary>
/// Asks QEMU programs of this host what they have: over QMP, of a machine without anything that never runs. Each program is
/// asked once per accelerator. Safe for concurrent use.
/// </summary>
internal sealed partial class ProgramSurvey(ProcessRunner processes)
{
    private static readonly TimeSpan Timeout = TimeSpan.FromSeconds(30);
    private readonly ConcurrentDictionary<(string Program, DateTime Changed, string Accelerator), ProgramAbilities> known = new();

    /// <exception cref="FaultException">The program does not run here; the message says why.</exception>
    public async Task<ProgramAbilities> ReadAsync(string executable, string accelerator, CancellationToken cancellationToken)
    {
        var key = (executable, File.GetLastWriteTimeUtc(executable), accelerator);
        if (known.TryGetValue(key, out var abilities))
        {
            return abilities;
        }
        var replies = await AskAsync(executable, accelerator, ["query-version", "query-machines", "query-cpu-definitions"], null, cancellationToken);
        var types = new Dictionary<string, string>(StringComparer.Ordinal);
        foreach (var machine in Require(replies, "query-machines", executable).Items())
        {
            types[machine.Text("name")] = machine.Text("name");
            if (machine.FindText("alias") is { } alias)
            {
                types[alias] = machine.Text("name");
            }
        }
        var models = new Dictionary<string, IReadOnlyList<string>>(StringComparer.Ordinal);
        foreach (var model in Require(replies, "query-cpu-definitions", executable).Items())
        {
            models[model.Text("name")] = model.Find("unavailable-features") is { } missing
                ? [.. missing.Items().Select(feature => JsonFields.AsText(feature, "unavailable-features"))] : [];
        }
        var version = Require(replies, "query-version", executable).Field("qemu");
        var help = await processes.RequireAsync(executable, ["-device", "help"], Timeout, cancellationToken);
        abilities = new ProgramAbilities(types, models, DeviceName().Matches(help).Select(match => match.Groups[1].Value).ToHashSet(StringComparer.Ordinal),
            new Version((int)version.Number("major"), (int)version.Number("minor")));
        return known.GetOrAdd(key, abilities);
    }

    /// <summary>The features that a processor would have on this host.</summary>
    /// <returns>Null: the program cannot tell.</returns>
    public async Task<IReadOnlySet<string>?> ExpandAsync(string executable, string accelerator, CpuChoice cpu, CancellationToken cancellationToken)
    {
        var arguments = CpuFacts.Expansion(cpu.Model ?? "", cpu.Features);
        var replies = await AskAsync(executable, accelerator, ["query-cpu-model-expansion"], arguments, cancellationToken);
        return replies.TryGetValue("query-cpu-model-expansion", out var reply) ? CpuFacts.FeaturesOf(reply) : null;
    }

    private async Task<Dictionary<string, JsonElement>> AskAsync(
        string executable, string accelerator, IReadOnlyList<string> commands, JsonObject? arguments, CancellationToken cancellationToken)
    {
        var input = string.Join('\n', ["""{"execute":"qmp_capabilities"}""", .. commands.Select(command => Command(command, arguments)), """{"execute":"quit"}""", ""]);
        var result = await processes.RunAsync(
            executable, ["-machine", "none", "-accel", accelerator, "-nodefaults", "-no-user-config", "-display", "none", "-S", "-qmp", "stdio"], Timeout, cancellationToken, input);
        var replies = new Dictionary<string, JsonElement>(StringComparer.Ordinal);
        foreach (var line in result.Output.Split('\n', StringSplitOptions.RemoveEmptyEntries))
        {
            if (TryParse(line) is { } reply && reply.FindText("id") is { } id && reply.Find("return") is { } value)
            {
                replies[id] = value;
            }
        }
        return replies.Count > 0 || result.ExitCode == 0
            ? replies
            : throw new FaultException(FaultReason.FailedPrecondition, $"{executable} does not run here: {ProcessRunner.LastLines(result.Error, 2)}");
    }

    private static string Command(string command, JsonObject? arguments)
    {
        var message = new JsonObject { ["execute"] = command, ["id"] = command };
        if (arguments is not null)
        {
            message["arguments"] = arguments.DeepClone();
        }
        return message.ToJsonString();
    }

    private static JsonElement? TryParse(string line)
    {
        try
        {
            using var document = JsonDocument.Parse(line);
            return document.RootElement.Clone();
        }
        catch (JsonException)
        {
            return null; // not of the protocol
        }
    }

    private static JsonElement Require(Dictionary<string, JsonElement> replies, string command, string executable) =>
        replies.TryGetValue(command, out var reply) ? reply : throw new FaultException(FaultReason.Unsupported, $"{executable} did not answer '{command}'.");

    // name "virtio-blk-pci", bus PCI, alias "virtio-blk"
    [GeneratedRegex("(?:^name|, alias) \"([^\"]+)\"", RegexOptions.Multiline | RegexOptions.CultureInvariant)]
    private static partial Regex DeviceName();
}
