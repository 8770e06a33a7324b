using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace VirtBackup.Testing.Lab;

/// <summary>What a command inside the guest left.</summary>
public sealed record GuestResult(int ExitCode, string Stdout, string Stderr)
{
    /// <summary>Standard output, or an exception that shows everything when the command failed.</summary>
    public string EnsureSuccess() => ExitCode == 0
        ? Stdout
        : throw new LabException($"The command in the guest ended with exit code {ExitCode}.\n{Stderr}{Stdout}");
}

/// <summary>A client of QEMU's guest agent. Its socket serves one client at a time. Not for concurrent calls.</summary>
public sealed class LabGuestAgent : IAsyncDisposable
{
    private const int FileChunkBytes = 512 * 1024;
    private readonly JsonLineChannel channel;

    private LabGuestAgent(JsonLineChannel channel) => this.channel = channel;

    /// <summary>Connects and waits until the agent answers, dropping what an earlier client left unread.</summary>
    public static async Task<LabGuestAgent> ConnectAsync(string socketPath, CancellationToken cancellationToken = default)
    {
        var agent = new LabGuestAgent(await JsonLineChannel.ConnectAsync(socketPath, cancellationToken));
        try
        {
            var id = RandomNumberGenerator.GetInt32(1, int.MaxValue);
            await agent.channel.SendAsync("guest-sync-delimited", new JsonObject { ["id"] = id }, delimited: true, cancellationToken);
            while (true)
            {
                var answer = await agent.ReceiveAsync("guest-sync-delimited", cancellationToken);
                if (answer.TryGetProperty("return", out var value) && value.ValueKind == JsonValueKind.Number && value.GetInt64() == id) return agent;
            }
        }
        catch
        {
            await agent.DisposeAsync();
            throw;
        }
    }

    /// <summary>Executes an agent command and returns its "return" value.</summary>
    public async Task<JsonElement> ExecuteAsync(string command, JsonNode? arguments = null, CancellationToken cancellationToken = default)
    {
        await channel.SendAsync(command, arguments, delimited: false, cancellationToken);
        return JsonLineChannel.Returned(command, await ReceiveAsync(command, cancellationToken));
    }

    /// <summary>Runs a line of shell in the guest to its end.</summary>
    public async Task<GuestResult> ShellAsync(string line, CancellationToken cancellationToken = default)
    {
        var started = await ExecuteAsync("guest-exec", new JsonObject
        {
            ["path"] = "/bin/sh",
            ["arg"] = new JsonArray("-c", line),
            ["env"] = new JsonArray("PATH=/bin:/sbin:/usr/bin:/usr/sbin", "HOME=/root"),
            ["capture-output"] = true,
        }, cancellationToken);
        var pid = started.GetProperty("pid").GetInt64();
        // To be asked costs the guest as much as many a command.
        for (var pause = 20; ; pause = Math.Min(200, pause * 3 / 2))
        {
            var status = await ExecuteAsync("guest-exec-status", new JsonObject { ["pid"] = pid }, cancellationToken);
            if (status.GetProperty("exited").GetBoolean())
            {
                var code = status.TryGetProperty("exitcode", out var exit) ? exit.GetInt32() : 128 + status.GetProperty("signal").GetInt32();
                return new GuestResult(code, Text(status, "out-data"), Text(status, "err-data"));
            }
            // The agent has no way to tell of the end; it must be asked.
            await Task.Delay(pause, cancellationToken);
        }
    }

    /// <summary>Replaces a file's content. It is in the guest's page cache then; run <c>sync</c> to have it on disk.</summary>
    public async Task WriteFileAsync(string path, ReadOnlyMemory<byte> content, CancellationToken cancellationToken = default)
    {
        var handle = await OpenAsync(path, "w", cancellationToken);
        for (var offset = 0; offset < content.Length;)
        {
            var part = content[offset..Math.Min(content.Length, offset + FileChunkBytes)];
            var written = await ExecuteAsync("guest-file-write", new JsonObject
            {
                ["handle"] = handle,
                ["buf-b64"] = Convert.ToBase64String(part.Span),
            }, cancellationToken);
            offset += written.GetProperty("count").GetInt32();
        }
        await CloseAsync(handle, cancellationToken);
    }

    public async Task<byte[]> ReadFileAsync(string path, CancellationToken cancellationToken = default)
    {
        var handle = await OpenAsync(path, "r", cancellationToken);
        using var content = new MemoryStream();
        while (true)
        {
            var read = await ExecuteAsync("guest-file-read", new JsonObject { ["handle"] = handle, ["count"] = FileChunkBytes }, cancellationToken);
            content.Write(Convert.FromBase64String(read.GetProperty("buf-b64").GetString()!));
            if (read.GetProperty("eof").GetBoolean()) break;
        }
        await CloseAsync(handle, cancellationToken);
        return content.ToArray();
    }

    public ValueTask DisposeAsync() => channel.DisposeAsync();

    private static string Text(JsonElement status, string name) =>
        status.TryGetProperty(name, out var data) ? Encoding.UTF8.GetString(Convert.FromBase64String(data.GetString()!)) : "";

    private async Task<long> OpenAsync(string path, string mode, CancellationToken cancellationToken) =>
        (await ExecuteAsync("guest-file-open", new JsonObject { ["path"] = path, ["mode"] = mode }, cancellationToken)).GetInt64();

    private Task<JsonElement> CloseAsync(long handle, CancellationToken cancellationToken) =>
        ExecuteAsync("guest-file-close", new JsonObject { ["handle"] = handle }, cancellationToken);

    private async Task<JsonElement> ReceiveAsync(string command, CancellationToken cancellationToken)
    {
        try
        {
            if (await channel.ReceiveAsync(cancellationToken) is { } answer) return answer;
        }
        catch (IOException e)
        {
            throw new LabException($"{command}: the guest agent's socket failed: {e.Message}", e);
        }
        throw new LabException($"{command}: the guest agent's socket was closed; the VM has ended.");
    }
}
