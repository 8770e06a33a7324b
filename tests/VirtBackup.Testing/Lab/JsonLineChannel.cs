using System.Buffers;
using System.IO.Pipelines;
using System.Net.Sockets;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace VirtBackup.Testing.Lab;

/// <summary>
/// JSON objects, one a line, over a unix socket: what QEMU's monitor and guest agent speak. One caller at a time.
/// Independent of the product's own clients on purpose, so that a fault there cannot hide itself.
/// </summary>
internal sealed class JsonLineChannel : IAsyncDisposable
{
    private const byte Delimiter = 0xFF;
    private readonly Socket socket;
    private readonly NetworkStream stream;
    private readonly PipeReader reader;

    private JsonLineChannel(Socket socket)
    {
        this.socket = socket;
        stream = new NetworkStream(socket, ownsSocket: true);
        reader = PipeReader.Create(stream);
    }

    public static async Task<JsonLineChannel> ConnectAsync(string path, CancellationToken cancellationToken)
    {
        var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        try
        {
            await socket.ConnectAsync(new UnixDomainSocketEndPoint(path), cancellationToken);
            return new JsonLineChannel(socket);
        }
        catch
        {
            socket.Dispose();
            throw;
        }
    }

    public async Task SendAsync(string command, JsonNode? arguments, bool delimited, CancellationToken cancellationToken)
    {
        var message = new JsonObject { ["execute"] = command };
        if (arguments is not null) message["arguments"] = arguments.DeepClone();
        var text = Encoding.UTF8.GetBytes(message.ToJsonString() + "\n");
        byte[] bytes = delimited ? [Delimiter, .. text] : text;
        await stream.WriteAsync(bytes, cancellationToken);
    }

    /// <summary>The next object, or null at the end of the connection. Whatever precedes a delimiter byte on a line is dropped.</summary>
    public async Task<JsonElement?> ReceiveAsync(CancellationToken cancellationToken)
    {
        while (true)
        {
            var result = await reader.ReadAsync(cancellationToken);
            var buffer = result.Buffer;
            if (buffer.PositionOf((byte)'\n') is { } end)
            {
                var line = buffer.Slice(0, end).ToArray().AsMemory();
                reader.AdvanceTo(buffer.GetPosition(1, end));
                line = line[(line.Span.LastIndexOf(Delimiter) + 1)..];
                if (line.Span.Trim((byte)'\r').IsEmpty) continue;
                using var document = JsonDocument.Parse(line);
                return document.RootElement.Clone();
            }
            reader.AdvanceTo(buffer.Start, buffer.End);
            if (result.IsCompleted) return null;
        }
    }

    public async ValueTask DisposeAsync()
    {
        await reader.CompleteAsync();
        await stream.DisposeAsync();
        socket.Dispose();
    }

    /// <summary>The answer's "return", or an exception with the error it carries.</summary>
    internal static JsonElement Returned(string command, JsonElement answer)
    {
        if (answer.TryGetProperty("return", out var value)) return value;
        var error = answer.GetProperty("error");
        throw new LabException($"{command}: {error.GetProperty("class").GetString()}: {error.GetProperty("desc").GetString()}");
    }
}
