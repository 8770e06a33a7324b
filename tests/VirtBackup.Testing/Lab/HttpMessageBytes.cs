using System.Globalization;
using System.Text;

namespace VirtBackup.Testing.Lab;

/// <summary>One HTTP/1.1 request or answer as it travelled: its head and its body.</summary>
internal sealed record HttpMessageBytes(string Head, byte[] Body)
{
    private const int HeadBytesMax = 64 << 10;

    /// <summary>Method and target, or version and status.</summary>
    public string FirstLine => Head[..Head.IndexOf("\r\n", StringComparison.Ordinal)];

    /// <summary>Reads one; null at the end of the connection.</summary>
    /// <param name="stream">Where from.</param>
    /// <param name="hasBody">Whether a body follows a head that announces one: not behind the answer to HEAD.</param>
    /// <param name="beforeBody">Called when the head has come.</param>
    /// <param name="cancellationToken">Stops it.</param>
    public static async Task<HttpMessageBytes?> ReadAsync(Stream stream, Func<string, bool> hasBody, Func<string, Task> beforeBody, CancellationToken cancellationToken)
    {
        if (await ReadHeadAsync(stream, cancellationToken) is not { } head)
        {
            return null;
        }
        await beforeBody(head);
        if (!hasBody(head))
        {
            return new HttpMessageBytes(head, []);
        }
        if (HeaderOf(head, "Transfer-Encoding") is { } encoding && encoding.Contains("chunked", StringComparison.OrdinalIgnoreCase))
        {
            var body = await ReadChunksAsync(stream, cancellationToken);
            return new HttpMessageBytes(Without(head, "Transfer-Encoding"), body).WithLength();
        }
        var bytes = new byte[int.Parse(HeaderOf(head, "Content-Length") ?? "0", CultureInfo.InvariantCulture)];
        await stream.ReadExactlyAsync(bytes, cancellationToken);
        return new HttpMessageBytes(head, bytes);
    }

    public static string? HeaderOf(string head, string name) => head.Split("\r\n")
        .FirstOrDefault(line => line.StartsWith(name + ":", StringComparison.OrdinalIgnoreCase))?[(name.Length + 1)..].Trim();

    /// <summary>The same with a head that tells the body's true length.</summary>
    public HttpMessageBytes WithLength() =>
        this with { Head = Without(Head, "Content-Length").TrimEnd() + string.Create(CultureInfo.InvariantCulture, $"\r\nContent-Length: {Body.Length}\r\n\r\n") };

    /// <summary>The same with one byte in the middle of the body changed.</summary>
    public HttpMessageBytes WithFlippedByte()
    {
        var body = (byte[])Body.Clone();
        if (body.Length > 0)
        {
            body[body.Length / 2] ^= 1;
        }
        return this with { Body = body };
    }

    public async Task WriteAsync(Stream stream, int bodyBytes, CancellationToken cancellationToken)
    {
        await stream.WriteAsync(Encoding.Latin1.GetBytes(Head), cancellationToken);
        await stream.WriteAsync(Body.AsMemory(0, bodyBytes), cancellationToken);
        await stream.FlushAsync(cancellationToken);
    }

    private static string Without(string head, string name) =>
        string.Join("\r\n", head.Split("\r\n").Where(line => !line.StartsWith(name + ":", StringComparison.OrdinalIgnoreCase)));

    private static async Task<string?> ReadHeadAsync(Stream stream, CancellationToken cancellationToken)
    {
        var head = new StringBuilder();
        var one = new byte[1];
        while (head.Length < HeadBytesMax)
        {
            if (await stream.ReadAsync(one, cancellationToken) == 0)
            {
                return null;
            }
            head.Append((char)one[0]);
            if (one[0] == '\n' && head.Length >= 4 && head[^2] == '\r' && head[^3] == '\n' && head[^4] == '\r')
            {
                return head.ToString();
            }
        }
        throw new LabException("The head of an HTTP message does not end.");
    }

    private static async Task<byte[]> ReadChunksAsync(Stream stream, CancellationToken cancellationToken)
    {
        var body = new MemoryStream();
        while (true)
        {
            var length = int.Parse((await ReadLineAsync(stream, cancellationToken)).Split(';')[0], NumberStyles.HexNumber, CultureInfo.InvariantCulture);
            var chunk = new byte[length];
            await stream.ReadExactlyAsync(chunk, cancellationToken);
            await ReadLineAsync(stream, cancellationToken);
            if (length == 0)
            {
                return body.ToArray();
            }
            body.Write(chunk);
        }
    }

    private static async Task<string> ReadLineAsync(Stream stream, CancellationToken cancellationToken)
    {
        var line = new StringBuilder();
        var one = new byte[1];
        while (await stream.ReadAsync(one, cancellationToken) > 0 && one[0] != '\n')
        {
            line.Append((char)one[0]);
        }
        return line.ToString().TrimEnd('\r');
    }
}
