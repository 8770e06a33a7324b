using System.Collections.Concurrent;
using System.Net.Sockets;
using System.Text;
using System.Text.Json;

namespace VirtBackup.Hypervisors.Tests.Qemu;

/// <summary>Accepts one client after another on a unix socket and lets a test speak.</summary>
internal abstract class FakePeer : IAsyncDisposable
{
    private readonly Socket listener = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
    private readonly CancellationTokenSource stop = new();
    private readonly Task loop;

    protected FakePeer(string path)
    {
        SocketPath = path;
        listener.Bind(new UnixDomainSocketEndPoint(path));
        listener.Listen(8);
        loop = AcceptAsync();
    }

    public string SocketPath { get; }

    private async Task AcceptAsync()
    {
        await Task.Yield();
        while (!stop.IsCancellationRequested)
        {
            try
            {
                using var client = await listener.AcceptAsync(stop.Token);
                await using var stream = new NetworkStream(client);
                await ServeAsync(stream, stop.Token);
            }
            catch (Exception failure) when (failure is OperationCanceledException or IOException or SocketException or JsonException)
            {
                // the client or the test has left
            }
        }
    }

    protected abstract Task ServeAsync(Stream stream, CancellationToken cancellationToken);

    public async ValueTask DisposeAsync()
    {
        await stop.CancelAsync();
        await loop;
        listener.Dispose();
        stop.Dispose();
    }
}

/// <summary>A guest agent that synchronises and thaws, but may keep silent about a freeze.</summary>
internal sealed class FakeGuestAgent(string path, bool freezeAnswers) : FakePeer(path)
{
    private readonly TaskCompletionSource thawAsked = new(TaskCreationOptions.RunContinuationsAsynchronously);

    public Task ThawAsked => thawAsked.Task;

    protected override async Task ServeAsync(Stream stream, CancellationToken cancellationToken)
    {
        using var reader = new StreamReader(stream, Encoding.Latin1);
        while (await reader.ReadLineAsync(cancellationToken) is { } line)
        {
            using var request = JsonDocument.Parse(line.TrimStart('\u00ff'));
            var command = request.RootElement.GetProperty("execute").GetString();
            if (command == "guest-fsfreeze-thaw")
            {
                thawAsked.TrySetResult();
            }
            if (command == "guest-fsfreeze-freeze" && !freezeAnswers)
            {
                continue;
            }
            var sync = command == "guest-sync-delimited";
            var value = sync ? request.RootElement.GetProperty("arguments").GetProperty("id").GetInt64() : 1;
            await stream.WriteAsync(Encoding.Latin1.GetBytes((sync ? "\u00ff" : "") + $"{{\"return\": {value}}}\n"), cancellationToken);
        }
    }
}

/// <summary>Greets with given bytes and answers every line that comes with the next of the given replies.</summary>
internal sealed class FakeMonitor(string path, byte[] greeting, IReadOnlyList<byte[]> replies) : FakePeer(path)
{
    protected override async Task ServeAsync(Stream stream, CancellationToken cancellationToken)
    {
        await stream.WriteAsync(greeting, cancellationToken);
        var buffer = new byte[4096];
        foreach (var reply in replies)
        {
            if (await stream.ReadAsync(buffer, cancellationToken) == 0)
            {
                return;
            }
            await stream.WriteAsync(reply, cancellationToken);
        }
    }
}

/// <summary>A monitor that answers each command as a test says, and remembers what it was asked.</summary>
/// <param name="answer">The value for a command and its arguments as JSON; null refuses it.</param>
internal sealed class ScriptedMonitor(string path, Func<string, string, string?> answer) : FakePeer(path)
{
    /// <summary>Commands with their arguments as JSON, where they have any.</summary>
    public ConcurrentQueue<string> Asked { get; } = new();

    protected override async Task ServeAsync(Stream stream, CancellationToken cancellationToken)
    {
        await stream.WriteAsync("""{"QMP":{"version":{"qemu":{"micro":22,"minor":2,"major":7},"package":""},"capabilities":[]}}"""u8.ToArray().Append((byte)'\n').ToArray(), cancellationToken);
        using var reader = new StreamReader(stream);
        while (await reader.ReadLineAsync(cancellationToken) is { } line)
        {
            using var request = JsonDocument.Parse(line);
            var (command, id) = (request.RootElement.GetProperty("execute").GetString()!, request.RootElement.GetProperty("id").GetRawText());
            var arguments = request.RootElement.TryGetProperty("arguments", out var given) ? given.GetRawText() : "";
            Asked.Enqueue($"{command} {arguments}".TrimEnd());
            var reply = command == "qmp_capabilities" ? "{}" : answer(command, arguments);
            reply = reply is null ? """ "error":{"class":"GenericError","desc":"refused by the test"} """ : $"\"return\":{reply}";
            await stream.WriteAsync(Encoding.UTF8.GetBytes($"{{{reply},\"id\":{id}}}\n"), cancellationToken);
        }
    }
}
