using System.Globalization;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using VirtBackup.Core;

namespace VirtBackup.Hypervisors.Guests;

/// <summary>Runs a hook inside a guest, and tells what it said.</summary>
internal static class GuestHookRun
{
    /// <summary>Lines of output that are told of each stream, each cut to <see cref="LineCharsMax"/> characters.</summary>
    private const int LinesMax = 20;
    private const int LineCharsMax = 400;
    private static readonly TimeSpan AnswerTimeout = TimeSpan.FromSeconds(5);
    private static readonly TimeSpan PollInterval = TimeSpan.FromMilliseconds(50);

    /// <returns>Null: it ended with exit code 0. Otherwise why it counts as failed. Never throws for the guest's sake.</returns>
    public static async Task<string?> RunAsync(
        IGuestAgent agent, GuestCommand command, string name, TimeProvider time, Action<string> log, CancellationToken cancellationToken)
    {
        log($"Hook {name}: {string.Join(' ', command.Words)}");
        var problem = await TryAsync(agent, command, name, time, log, cancellationToken);
        log(problem is null ? $"Hook {name}: ended well" : $"Hook {name}: {problem}");
        return problem;
    }

    private static async Task<string?> TryAsync(
        IGuestAgent agent, GuestCommand command, string name, TimeProvider time, Action<string> log, CancellationToken cancellationToken)
    {
        try
        {
            var started = time.GetTimestamp();
            var reply = await agent.ExecuteAsync("guest-exec", new JsonObject
            {
                ["path"] = command.Words[0],
                ["arg"] = new JsonArray([.. command.Words.Skip(1).Select(static word => (JsonNode)word)]),
                ["capture-output"] = true,
            }, AnswerTimeout, cancellationToken);
            var query = NumberOf(reply, "pid") ?? throw FaultException.Malformed("The guest agent did not name the process that it started.");
            while (true)
            {
                var status = await agent.ExecuteAsync("guest-exec-status", new JsonObject { ["pid"] = query }, AnswerTimeout, cancellationToken);
                if (status.ValueKind == JsonValueKind.Object && status.TryGetProperty("exited", out var exited) && exited.ValueKind == JsonValueKind.True)
                {
                    Tell(status, "out-data", name, log);
                    Tell(status, "err-data", name, log);
                    return NumberOf(status, "exitcode") is { } code
                        ? code == 0 ? null : $"ended with exit code {code.ToString(CultureInfo.InvariantCulture)}"
                        : $"was ended by signal {NumberOf(status, "signal")?.ToString(CultureInfo.InvariantCulture) ?? "unknown"}";
                }
                if (time.GetElapsedTime(started) >= command.TimeLimit)
                {
                    return $"did not end within {command.TimeLimit.TotalSeconds:0.#} s; it is still running in the guest";
                }
                await Task.Delay(PollInterval, time, cancellationToken);
            }
        }
        catch (FaultException fault)
        {
            return $"could not be run: {fault.Message}";
        }
    }

    private static long? NumberOf(JsonElement element, string name) =>
        element.ValueKind == JsonValueKind.Object && element.TryGetProperty(name, out var value) && value.ValueKind == JsonValueKind.Number && value.TryGetInt64(out var number)
            ? number : null;

    private static void Tell(JsonElement status, string stream, string name, Action<string> log)
    {
        if (!status.TryGetProperty(stream, out var data) || data.ValueKind != JsonValueKind.String || !data.TryGetBytesFromBase64(out var bytes))
        {
            return;
        }
        var lines = Encoding.UTF8.GetString(bytes).Split('\n', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries);
        foreach (var line in lines.Take(LinesMax))
        {
            log($"Hook {name} said: {Clean(line.Length <= LineCharsMax ? line : line[..LineCharsMax] + "…")}");
        }
        if (lines.Length > LinesMax)
        {
            log($"Hook {name} said {lines.Length - LinesMax} more lines.");
        }
    }

    // What a guest prints must not move the cursor of whoever reads the log.
    private static string Clean(string line) => string.Create(line.Length, line, static (target, source) =>
    {
        for (var i = 0; i < source.Length; i++)
        {
            target[i] = char.IsControl(source[i]) ? ' ' : source[i];
        }
    });
}
