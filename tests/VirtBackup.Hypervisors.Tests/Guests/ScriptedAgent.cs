using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using VirtBackup.Core;
using VirtBackup.Hypervisors.Guests;

namespace VirtBackup.Hypervisors.Tests.Guests;

/// <summary>A guest agent in memory that writes down what it is asked for.</summary>
internal sealed class ScriptedAgent : IGuestAgent
{
    private readonly Queue<string> running = new();

    /// <summary>What was asked for, in order: freeze, thaw, ask-thaw, and the programs of hooks.</summary>
    public List<string> Asked { get; } = [];

    /// <summary>Exit codes of programs; 0 when not named, never ending when null.</summary>
    public Dictionary<string, int?> ExitCodes { get; } = [];

    public string Output { get; set; } = "";

    public long Frozen { get; set; } = 2;

    public long Thawed { get; set; } = 2;

    public Exception? FreezeFailure { get; set; }

    public Exception? ThawFailure { get; set; }

    public Task<JsonElement> ExecuteAsync(string command, JsonObject? arguments, TimeSpan timeout, CancellationToken cancellationToken)
    {
        if (command == "guest-exec")
        {
            var path = arguments!["path"]!.GetValue<string>();
            Asked.Add(path);
            running.Enqueue(path);
            return Task.FromResult(JsonSerializer.SerializeToElement(new { pid = 7 }));
        }
        var code = ExitCodes.GetValueOrDefault(running.Peek(), 0);
        if (code is null)
        {
            return Task.FromResult(JsonSerializer.SerializeToElement(new { exited = false }));
        }
        running.Dequeue();
        var output = Convert.ToBase64String(Encoding.UTF8.GetBytes(Output));
        return Task.FromResult(JsonSerializer.SerializeToElement(new Dictionary<string, object> { ["exited"] = true, ["exitcode"] = code, ["out-data"] = output }));
    }

    public Task<long> FreezeAsync(TimeSpan timeout, CancellationToken cancellationToken)
    {
        Asked.Add("freeze");
        return FreezeFailure is { } failure ? throw failure : Task.FromResult(Frozen);
    }

    public Task<long> ThawAsync(TimeSpan timeout, CancellationToken cancellationToken)
    {
        Asked.Add("thaw");
        return ThawFailure is { } failure ? throw failure : Task.FromResult(Thawed);
    }

    public Task AskToThawAsync(CancellationToken cancellationToken)
    {
        Asked.Add("ask-thaw");
        return Task.CompletedTask;
    }

    public ValueTask DisposeAsync() => ValueTask.CompletedTask;

    public static FaultException Silence => new(FaultReason.HypervisorUnavailable, "The guest agent did not answer.");
}
