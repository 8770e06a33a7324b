using System.Collections.Concurrent;
using System.Net;
using System.Net.Sockets;

namespace VirtBackup.Testing.Lab;

/// <summary>
/// An HTTP/1.1 proxy in front of an object server, which spoils requests and answers as it is told. It passes them on as
/// they are, signatures included. All members may be called concurrently.
/// </summary>
public sealed class FaultProxy : IAsyncDisposable
{
    private static readonly byte[] s_continue = "HTTP/1.1 100 Continue\r\n\r\n"u8.ToArray();
    private readonly TcpListener _listener = new(IPAddress.Loopback, LabPorts.Take());
    private readonly CancellationTokenSource _stopping = new();
    private readonly ConcurrentDictionary<string, HttpMessageBytes> _first = new();
    private readonly ConcurrentBag<Task> _connections = [];
    private readonly Uri _server;
    private readonly Task _accepting;
    private int _faults;

    /// <param name="server">Where requests go.</param>
    public FaultProxy(string server)
    {
        _server = new Uri(server);
        _listener.Start();
        Endpoint = $"http://{_listener.LocalEndpoint}";
        _accepting = AcceptAsync();
    }

    public string Endpoint { get; }

    /// <summary>Which fault a request meets, by its method and target.</summary>
    public Func<string, string, HttpFault> Choose { get; set; } = static (_, _) => HttpFault.None;

    /// <summary>An answer of the proxy's own, a head without body, to a request's head; null: it is passed on.</summary>
    public Func<string, string?> Answer { get; set; } = static _ => null;

    /// <summary>The head of an answer that is passed on, from the heads of request and answer.</summary>
    public Func<string, string, string> Rewrite { get; set; } = static (_, answer) => answer;

    /// <summary>Requests that met a fault.</summary>
    public int Faults => Volatile.Read(ref _faults);

    public async ValueTask DisposeAsync()
    {
        await _stopping.CancelAsync();
        _listener.Stop();
        await _accepting;
        await Task.WhenAll(_connections);
        _stopping.Dispose();
    }

    private async Task AcceptAsync()
    {
        try
        {
            while (true)
            {
                var client = await _listener.AcceptTcpClientAsync(_stopping.Token);
                _connections.Add(ServeAsync(client));
            }
        }
        catch (Exception ended) when (ended is OperationCanceledException or SocketException or ObjectDisposedException)
        {
            // Disposed.
        }
    }

    private async Task ServeAsync(TcpClient client)
    {
        await Task.Yield();
        using (client)
        {
            try
            {
                client.NoDelay = true;
                using var server = new TcpClient { NoDelay = true };
                await server.ConnectAsync(IPAddress.Loopback, _server.Port, _stopping.Token);
                while (await PassAsync(client, server))
                {
                }
            }
            catch (Exception ended) when (ended is IOException or SocketException or OperationCanceledException)
            {
                // One of both sides has gone.
            }
        }
    }

    /// <summary>One request and its answer; false: the connection is over.</summary>
    private async Task<bool> PassAsync(TcpClient client, TcpClient server)
    {
        var (near, far) = (client.GetStream(), server.GetStream());
        var fault = HttpFault.None;
        var isReset = false;
        var request = await HttpMessageBytes.ReadAsync(
            near,
            _ => !isReset,
            async head =>
            {
                var words = head.Split(' ', 3);
                fault = Choose(words[0], words[1]);
                if (fault != HttpFault.None)
                {
                    Interlocked.Increment(ref _faults);
                }
                if (HttpMessageBytes.HeaderOf(head, "Expect") is not null)
                {
                    await near.WriteAsync(s_continue, _stopping.Token);
                }
                isReset = fault == HttpFault.ResetRequest;
                if (isReset && int.TryParse(HttpMessageBytes.HeaderOf(head, "Content-Length"), out var length))
                {
                    await near.ReadExactlyAsync(new byte[length / 2], _stopping.Token);
                }
            },
            _stopping.Token);
        if (request is null)
        {
            return false;
        }
        if (Answer(request.Head) is { } own)
        {
            await new HttpMessageBytes(own, []).WriteAsync(near, 0, _stopping.Token);
            return true;
        }
        switch (fault)
        {
            case HttpFault.ResetRequest:
                return Reset(client);
            case HttpFault.NoAnswer:
                return await HoldAsync(near);
            case HttpFault.Swallow:
                // Azure's word for it; S3's clients take any success.
                await new HttpMessageBytes("HTTP/1.1 201 Created\r\nETag: \"0\"\r\nLast-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\nContent-Length: 0\r\n\r\n", []).WriteAsync(near, 0, _stopping.Token);
                return true;
            case HttpFault.ServerError:
                return await RefuseAsync(near, request, "500 Internal Server Error", "InternalError");
            case HttpFault.ForeignNotFound:
                await new HttpMessageBytes("HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\nContent-Length: 23\r\n\r\n", "<html>not here</html>\r\n"u8.ToArray())
                    .WriteAsync(near, IsLookUp(request) ? 0 : 23, _stopping.Token);
                return true;
            case HttpFault.SlowDown:
                return await RefuseAsync(near, request, "503 Slow Down", "SlowDown");
        }
        var sent = fault == HttpFault.FlipRequest ? request.WithFlippedByte() : request;
        await sent.WriteAsync(far, sent.Body.Length, _stopping.Token);
        var answer = await ReadAnswerAsync(far, request);
        if (answer is null)
        {
            return false;
        }
        if (request.FirstLine.StartsWith("GET ", StringComparison.Ordinal))
        {
            var first = _first.GetOrAdd(request.FirstLine, answer);
            answer = fault == HttpFault.StaleAnswer ? first : answer;
        }
        return await AnswerAsync(client, near, answer with { Head = Rewrite(request.Head, answer.Head) }, fault);
    }

    private async Task<HttpMessageBytes?> ReadAnswerAsync(NetworkStream far, HttpMessageBytes request)
    {
        var isHead = IsLookUp(request);
        while (true)
        {
            var answer = await HttpMessageBytes.ReadAsync(far, head => !isHead && !head.Contains(" 204 ", StringComparison.Ordinal), static _ => Task.CompletedTask, _stopping.Token);
            // The proxy has given its own.
            if (answer is null || !answer.FirstLine.Contains(" 100 ", StringComparison.Ordinal))
            {
                return answer;
            }
        }
    }

    private async Task<bool> AnswerAsync(TcpClient client, NetworkStream near, HttpMessageBytes answer, HttpFault fault)
    {
        switch (fault)
        {
            case HttpFault.LoseAnswer:
                return Reset(client);
            case HttpFault.HoldAnswer:
                return await HoldAsync(near);
            case HttpFault.ResetAnswer:
                await answer.WriteAsync(near, answer.Body.Length / 2, _stopping.Token);
                return Reset(client);
            case HttpFault.ShortAnswer:
                answer = (answer with { Body = answer.Body[..(answer.Body.Length / 2)] }).WithLength();
                break;
            case HttpFault.FlipAnswer:
                answer = answer.WithFlippedByte();
                break;
        }
        await answer.WriteAsync(near, answer.Body.Length, _stopping.Token);
        return HttpMessageBytes.HeaderOf(answer.Head, "Connection") is not { } connection || !connection.Contains("close", StringComparison.OrdinalIgnoreCase);
    }

    // Its answer tells a length and has no body.
    private static bool IsLookUp(HttpMessageBytes request) => request.FirstLine.StartsWith("HEAD ", StringComparison.Ordinal);

    private static bool Reset(TcpClient client)
    {
        client.LingerState = new LingerOption(enable: true, seconds: 0);
        return false;
    }

    // Until the client has had enough.
    private async Task<bool> HoldAsync(NetworkStream near)
    {
        var any = await near.ReadAsync(new byte[1], _stopping.Token);
        return any < 0;
    }

    private async Task<bool> RefuseAsync(NetworkStream near, HttpMessageBytes request, string status, string code)
    {
        var body = System.Text.Encoding.ASCII.GetBytes($"<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code><Message>planted</Message></Error>");
        var answer = new HttpMessageBytes($"HTTP/1.1 {status}\r\nContent-Type: application/xml\r\n\r\n", body).WithLength();
        await answer.WriteAsync(near, IsLookUp(request) ? 0 : body.Length, _stopping.Token);
        return true;
    }
}
