using System.Buffers;
using System.Net.Sockets;
using System.Text.Json;
using System.Text.Json.Nodes;
using Microsoft.Win32.SafeHandles;
using VirtBackup.Core;

namespace VirtBackup.Hypervisors.Qemu;

/// <summary>
/// JSON documents, one a line, over a unix socket. A read that is cancelled loses nothing: what has arrived stays
/// buffered for the next one. Not safe for concurrent use.
/// </summary>
internal sealed class JsonLineSocket : IDisposable
{
    private const int DepthMax = 512;
    private static readonly TimeSpan RetryInterval = TimeSpan.FromMilliseconds(20);
    private readonly Socket socket;
    private readonly int lineBytesMax;
    private byte[] buffer = ArrayPool<byte>.Shared.Rent(64 << 10);
    private int start, end, scanned;

    private JsonLineSocket(Socket socket, string path, int lineBytesMax)
    {
        this.socket = socket;
        this.lineBytesMax = lineBytesMax;
        Path = path;
    }

    public string Path { get; }

    public Socket Socket => socket;

    /// <param name="timeout">
    /// For a listener whose queue is full: a QEMU socket serves one client, and holds few others that wait.
    /// </param>
    /// <exception cref="FaultException"><see cref="FaultReason.HypervisorUnavailable"/>: nobody listens there, or others are in front for too long.</exception>
    public static async Task<JsonLineSocket> ConnectAsync(string path, int lineBytesMax, TimeProvider time, TimeSpan timeout, CancellationToken cancellationToken)
    {
        for (var started = time.GetTimestamp(); ;)
        {
            var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
            try
            {
                await socket.ConnectAsync(new UnixDomainSocketEndPoint(path), cancellationToken);
                return new JsonLineSocket(socket, path, lineBytesMax);
            }
            catch (SocketException failure) when (failure.SocketErrorCode == SocketError.WouldBlock)
            {
                socket.Dispose();
                if (time.GetElapsedTime(started) >= timeout)
                {
                    throw new FaultException(FaultReason.HypervisorUnavailable,
                        $"Other clients wait for the socket {path}: another program is connected to it, and QEMU serves one at a time.", failure);
                }
            }
            catch (Exception failure) when (failure is SocketException or ArgumentException)
            {
                socket.Dispose();
                throw new FaultException(FaultReason.HypervisorUnavailable, $"The socket {path} does not answer ({failure.Message}). Is the machine running?", failure);
            }
            catch
            {
                socket.Dispose();
                throw;
            }
            await Task.Delay(RetryInterval, time, cancellationToken);
        }
    }

    /// <summary>Whether a process listens on a unix socket.</summary>
    public static async Task<bool> IsListeningAsync(string path, CancellationToken cancellationToken)
    {
        using var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        try
        {
            await socket.ConnectAsync(new UnixDomainSocketEndPoint(path), cancellationToken);
            return true;
        }
        catch (SocketException failure)
        {
            return failure.SocketErrorCode == SocketError.WouldBlock; // a full queue is a listener's
        }
        catch (ArgumentException)
        {
            return false; // too long a path for any socket
        }
    }

    public async Task SendAsync(JsonNode message, byte[]? prefix, CancellationToken cancellationToken)
    {
        var text = JsonSerializer.SerializeToUtf8Bytes(message);
        var line = new byte[(prefix?.Length ?? 0) + text.Length + 1];
        prefix?.CopyTo(line, 0);
        text.CopyTo(line, line.Length - text.Length - 1);
        line[^1] = (byte)'\n';
        try
        {
            for (var sent = 0; sent < line.Length;)
            {
                sent += await socket.SendAsync(line.AsMemory(sent), SocketFlags.None, cancellationToken);
            }
        }
        catch (SocketException failure)
        {
            throw new FaultException(FaultReason.HypervisorUnavailable, $"The connection to {Path} broke: {failure.Message}.", failure);
        }
    }

    /// <summary>Sends a short document together with an open file (unix(7), SCM_RIGHTS), which the peer then has, too.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.HypervisorUnavailable"/>.</exception>
    public void SendWithFile(JsonNode message, SafeFileHandle file)
    {
        byte[] line = [.. JsonSerializer.SerializeToUtf8Bytes(message), (byte)'\n'];
        if (DescriptorPassing.Send(socket, line, file) is { } problem)
        {
            throw new FaultException(FaultReason.HypervisorUnavailable, $"No open file could be handed to {Path}: {problem}.");
        }
    }

    /// <summary>The next document; the bytes before <paramref name="sentinel"/> in its line, when given, are noise and dropped.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.HypervisorUnavailable"/> at the end of the stream; <see cref="FaultReason.Malformed"/>.</exception>
    public async Task<JsonElement> ReceiveAsync(byte? sentinel, CancellationToken cancellationToken)
    {
        while (true)
        {
            var line = await ReadLineAsync(cancellationToken);
            if (sentinel is { } mark)
            {
                line = line[(line.Span.LastIndexOf(mark) + 1)..];
            }
            if (line.Span.Trim(" \t\r"u8).Length > 0)
            {
                return Parse(line);
            }
        }
    }

    private JsonElement Parse(ReadOnlyMemory<byte> line)
    {
        try
        {
            using var document = JsonDocument.Parse(line, new JsonDocumentOptions { MaxDepth = DepthMax });
            return document.RootElement.Clone();
        }
        catch (JsonException failure)
        {
            throw new FaultException(FaultReason.Malformed, $"The peer at {Path} sent a line that is not JSON.", failure);
        }
    }

    // The line stays valid until the next call.
    private async Task<ReadOnlyMemory<byte>> ReadLineAsync(CancellationToken cancellationToken)
    {
        while (true)
        {
            var found = buffer.AsSpan(scanned, end - scanned).IndexOf((byte)'\n');
            if (found >= 0)
            {
                var line = buffer.AsMemory(start, scanned + found - start);
                start = scanned = scanned + found + 1;
                return line;
            }
            scanned = end;
            if (end - start > lineBytesMax)
            {
                throw FaultException.Malformed($"The peer at {Path} sent a line of more than {lineBytesMax} bytes.");
            }
            MakeRoom();
            int count;
            try
            {
                count = await socket.ReceiveAsync(buffer.AsMemory(end), SocketFlags.None, cancellationToken);
            }
            catch (SocketException failure)
            {
                throw new FaultException(FaultReason.HypervisorUnavailable, $"The connection to {Path} broke: {failure.Message}.", failure);
            }
            if (count == 0)
            {
                throw new FaultException(FaultReason.HypervisorUnavailable, $"The peer at {Path} closed the connection. Did the machine stop?");
            }
            end += count;
        }
    }

    private void MakeRoom()
    {
        if (end < buffer.Length)
        {
            return;
        }
        var length = end - start;
        var target = length > buffer.Length / 2 ? ArrayPool<byte>.Shared.Rent(buffer.Length * 2) : buffer;
        Buffer.BlockCopy(buffer, start, target, 0, length);
        if (target != buffer)
        {
            ArrayPool<byte>.Shared.Return(buffer);
            buffer = target;
        }
        scanned -= start;
        (start, end) = (0, length);
    }

    public void Dispose()
    {
        socket.Dispose();
        ArrayPool<byte>.Shared.Return(Interlocked.Exchange(ref buffer, []));
    }
}
