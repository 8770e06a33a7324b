using System.Text.Json;
using System.Text.Json.Nodes;

namespace VirtBackup.Testing.Lab;

/// <summary>
/// A client of QEMU's machine protocol (QMP). A monitor socket serves one client at a time. Calls may be made
/// concurrently; they are served one by one.
/// </summary>
public sealed class LabMonitor : IAsyncDisposable
{
    private readonly JsonLineChannel channel;
    private readonly SemaphoreSlim turn = new(1, 1);
    private readonly List<JsonElement> events = [];

    private LabMonitor(JsonLineChannel channel) => this.channel = channel;

    /// <summary>How long a command may take.</summary>
    public TimeSpan AnswerLimit { get; set; } = TimeSpan.FromMinutes(3);

    public static async Task<LabMonitor> ConnectAsync(string socketPath, CancellationToken cancellationToken = default)
    {
        var monitor = new LabMonitor(await JsonLineChannel.ConnectAsync(socketPath, cancellationToken));
        try
        {
            _ = await monitor.channel.ReceiveAsync(cancellationToken)
                ?? throw new LabException($"The monitor at {socketPath} closed the connection instead of greeting.");
            await monitor.ExecuteAsync("qmp_capabilities", null, cancellationToken);
            return monitor;
        }
        catch
        {
            await monitor.DisposeAsync();
            throw;
        }
    }

    /// <summary>Executes a command and returns its "return" value.</summary>
    /// <exception cref="LabException">QEMU answered with an error, or went away.</exception>
    /// <exception cref="TimeoutException">It has not answered within <see cref="AnswerLimit"/>. The connection is then unusable.</exception>
    public async Task<JsonElement> ExecuteAsync(string command, JsonNode? arguments = null, CancellationToken cancellationToken = default)
    {
        await turn.WaitAsync(cancellationToken);
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        limit.CancelAfter(AnswerLimit);
        try
        {
            await channel.SendAsync(command, arguments, delimited: false, limit.Token);
            while (true)
            {
                var message = await ReceiveAsync(command, limit.Token);
                if (!message.TryGetProperty("event", out _)) return JsonLineChannel.Returned(command, message);
                events.Add(message);
            }
        }
        catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
        {
            throw new TimeoutException($"{command}: QEMU has not answered for {AnswerLimit.TotalSeconds:0} s.");
        }
        finally
        {
            turn.Release();
        }
    }

    /// <summary>Takes the oldest event of this name since the connection was made, waiting for it if need be.</summary>
    /// <exception cref="TimeoutException">It did not come in time (30 s when not given). The connection is then unusable.</exception>
    public async Task<JsonElement> WaitForEventAsync(string name, TimeSpan? timeout = null, CancellationToken cancellationToken = default)
    {
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        limit.CancelAfter(timeout ?? TimeSpan.FromSeconds(90));
        await turn.WaitAsync(cancellationToken);
        try
        {
            while (true)
            {
                var found = events.FindIndex(e => e.GetProperty("event").GetString() == name);
                if (found >= 0)
                {
                    var taken = events[found];
                    events.RemoveAt(found);
                    return taken;
                }
                events.Add(await ReceiveAsync($"waiting for {name}", limit.Token));
            }
        }
        catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
        {
            throw new TimeoutException($"The event {name} did not come in time.");
        }
        finally
        {
            turn.Release();
        }
    }

    public async ValueTask DisposeAsync()
    {
        await channel.DisposeAsync();
        turn.Dispose();
    }

    private async Task<JsonElement> ReceiveAsync(string purpose, CancellationToken cancellationToken)
    {
        try
        {
            if (await channel.ReceiveAsync(cancellationToken) is { } message) return message;
        }
        catch (IOException e)
        {
            throw new LabException($"{purpose}: QEMU went away: {e.Message}", e);
        }
        throw new LabException($"{purpose}: QEMU closed the connection.");
    }
}
