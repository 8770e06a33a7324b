using System.Globalization;
using System.Net.Sockets;
using System.Runtime.InteropServices;
using System.Text.Json;
using System.Text.Json.Nodes;
using Microsoft.Win32.SafeHandles;
using VirtBackup.Core;

namespace VirtBackup.Hypervisors.Qemu;

/// <summary>Something QEMU reported by itself.</summary>
/// <param name="At">When it happened, by QEMU's clock.</param>
internal sealed record QmpEvent(string Name, JsonElement Data, TimeSpan At);

/// <summary>Something for QEMU to do.</summary>
internal sealed record QmpCommand(string Name, JsonObject? Arguments = null);

/// <summary>The process at the other end of a unix socket, as the kernel reports it.</summary>
internal readonly record struct PeerProcess(int Pid, int UserId, int GroupId);

/// <summary>
/// A QEMU Machine Protocol session (QEMU docs/interop/qmp-spec). QEMU serves one client at a time on a socket, so a
/// session is opened for one operation and closed at its end. Commands are serialised; after a timeout the session is
/// still usable, and the late reply is dropped.
/// </summary>
internal sealed class QmpClient : IAsyncDisposable
{
    /// <summary>Longest reply; the schema, the largest known, takes 0.2 MiB.</summary>
    public const int ReplyBytesMax = 16 << 20;
    private const int EventsMax = 1024;
    private const int SocketLevel = 1, PeerCredentials = 17;

    private readonly JsonLineSocket lines;
    private readonly TimeProvider time;
    private readonly TimeSpan timeout;
    private readonly SemaphoreSlim turn = new(1);
    private readonly Queue<QmpEvent> events = new();
    private long lastId;

    private QmpClient(JsonLineSocket lines, TimeProvider time, TimeSpan timeout)
    {
        this.lines = lines;
        this.time = time;
        this.timeout = timeout;
    }

    public string SocketPath => lines.Path;

    /// <summary>Opens a session: greeting, then capabilities.</summary>
    /// <param name="greetingTimeout">For the greeting, which a monitor in other hands does not send.</param>
    /// <param name="timeout">For each command that names no other.</param>
    /// <exception cref="FaultException"><see cref="FaultReason.HypervisorUnavailable"/>: nobody listens, or another program holds the monitor.</exception>
    public static async Task<QmpClient> ConnectAsync(string path, TimeProvider time, TimeSpan greetingTimeout, TimeSpan timeout, CancellationToken cancellationToken)
    {
        var lines = await JsonLineSocket.ConnectAsync(path, ReplyBytesMax, time, greetingTimeout, cancellationToken);
        var client = new QmpClient(lines, time, timeout);
        try
        {
            var greeting = await client.WithinAsync(greetingTimeout, token => lines.ReceiveAsync(null, token),
                $"The monitor {path} gave no greeting within {greetingTimeout.TotalSeconds:0.#} s: another program is probably connected to it, and QEMU serves one at a time. "
                + "Give the backup a monitor socket of its own.", cancellationToken);
            if (greeting.Find("QMP") is null)
            {
                throw FaultException.Malformed($"The peer at {path} does not speak the QEMU machine protocol.");
            }
            await client.ExecuteAsync("qmp_capabilities", null, cancellationToken);
            return client;
        }
        catch
        {
            await client.DisposeAsync();
            throw;
        }
    }

    /// <summary>The process that opened the listening socket: QEMU itself, unless a manager passed the socket in.</summary>
    public PeerProcess ReadPeer()
    {
        Span<byte> raw = stackalloc byte[12];
        try
        {
            lines.Socket.GetRawSocketOption(SocketLevel, PeerCredentials, raw);
        }
        catch (SocketException failure)
        {
            throw new FaultException(FaultReason.Unsupported, $"The process behind {SocketPath} cannot be determined: {failure.Message}.", failure);
        }
        var words = MemoryMarshal.Cast<byte, int>(raw);
        return new PeerProcess(words[0], words[1], words[2]);
    }

    /// <summary>Runs a command and returns its result.</summary>
    /// <exception cref="FaultException">
    /// <see cref="FaultReason.FailedPrecondition"/>: QEMU refused it; the message holds its error class and description.
    /// </exception>
    public async Task<JsonElement> ExecuteAsync(string command, JsonObject? arguments, CancellationToken cancellationToken, TimeSpan? limit = null)
    {
        await turn.WaitAsync(cancellationToken);
        try
        {
            return await WithinAsync(limit ?? timeout, async token => await ReceiveReplyAsync(await SendAsync(command, arguments, token), command, token),
                $"QEMU at {SocketPath} did not answer '{command}' within {(limit ?? timeout).TotalSeconds:0.#} s.", cancellationToken);
        }
        finally
        {
            turn.Release();
        }
    }

    /// <summary>
    /// Sends commands together, so that QEMU does not wait for us between them. It runs them in this order, each whatever became of
    /// those before it.
    /// </summary>
    /// <param name="limit">For all of them.</param>
    /// <exception cref="FaultException">As of <see cref="ExecuteAsync"/>, for the first that was refused; all were run then.</exception>
    public async Task ExecuteAllAsync(IReadOnlyList<QmpCommand> commands, TimeSpan limit, CancellationToken cancellationToken)
    {
        await turn.WaitAsync(cancellationToken);
        try
        {
            await WithinAsync(limit, async token =>
            {
                var ids = new List<long>();
                foreach (var command in commands)
                {
                    ids.Add(await SendAsync(command.Name, command.Arguments, token));
                }
                FaultException? refused = null;
                for (var i = 0; i < commands.Count; i++)
                {
                    try
                    {
                        await ReceiveReplyAsync(ids[i], commands[i].Name, token);
                    }
                    catch (FaultException fault) when (fault.Reason == FaultReason.FailedPrecondition)
                    {
                        refused ??= fault;
                    }
                }
                return refused is null ? true : throw refused;
            }, $"QEMU at {SocketPath} did not answer '{string.Join("', '", commands.Select(static command => command.Name))}' within {limit.TotalSeconds:0.#} s.", cancellationToken);
        }
        finally
        {
            turn.Release();
        }
    }

    /// <summary>As <see cref="ExecuteAsync"/>, with an open file for QEMU.</summary>
    public async Task ExecuteWithFileAsync(string command, JsonObject arguments, SafeFileHandle file, CancellationToken cancellationToken)
    {
        await turn.WaitAsync(cancellationToken);
        try
        {
            await WithinAsync(timeout, async token =>
            {
                var message = new JsonObject { ["execute"] = command, ["id"] = (++lastId).ToString(CultureInfo.InvariantCulture), ["arguments"] = arguments };
                lines.SendWithFile(message, file);
                return await ReceiveReplyAsync(lastId, command, token);
            }, $"QEMU at {SocketPath} did not answer '{command}' within {timeout.TotalSeconds:0.#} s.", cancellationToken);
        }
        finally
        {
            turn.Release();
        }
    }

    /// <summary>Takes the events of a name that have arrived, the oldest first.</summary>
    public async Task<IReadOnlyList<QmpEvent>> TakeEventsAsync(string name, CancellationToken cancellationToken)
    {
        await turn.WaitAsync(cancellationToken);
        try
        {
            var taken = new List<QmpEvent>();
            for (var left = events.Count; left > 0; left--)
            {
                var candidate = events.Dequeue();
                if (candidate.Name == name)
                {
                    taken.Add(candidate);
                }
                else
                {
                    events.Enqueue(candidate);
                }
            }
            return taken;
        }
        finally
        {
            turn.Release();
        }
    }

    private async Task<long> SendAsync(string command, JsonObject? arguments, CancellationToken cancellationToken)
    {
        var message = new JsonObject { ["execute"] = command, ["id"] = (++lastId).ToString(CultureInfo.InvariantCulture) };
        if (arguments is not null)
        {
            message["arguments"] = arguments;
        }
        await lines.SendAsync(message, null, cancellationToken);
        return lastId;
    }

    /// <summary>Waits for an event that arrived already, unconsumed, or arrives now.</summary>
    public async Task<QmpEvent> WaitForEventAsync(string name, Func<JsonElement, bool> matches, TimeSpan limit, CancellationToken cancellationToken)
    {
        await turn.WaitAsync(cancellationToken);
        try
        {
            return await WithinAsync(limit, async token =>
            {
                while (true)
                {
                    for (var left = events.Count; left > 0; left--)
                    {
                        var candidate = events.Dequeue();
                        if (candidate.Name == name && matches(candidate.Data))
                        {
                            return candidate;
                        }
                        events.Enqueue(candidate);
                    }
                    Keep(await lines.ReceiveAsync(null, token));
                }
            }, $"QEMU at {SocketPath} did not report {name} within {limit.TotalSeconds:0.#} s.", cancellationToken);
        }
        finally
        {
            turn.Release();
        }
    }

    private async Task<JsonElement> ReceiveReplyAsync(long number, string command, CancellationToken cancellationToken)
    {
        var id = number.ToString(CultureInfo.InvariantCulture);
        while (true)
        {
            var message = await lines.ReceiveAsync(null, cancellationToken);
            if (Keep(message) || (message.FindText("id") is { } replied && IsEarlier(replied, number)))
            {
                continue;
            }
            // An error about an unreadable request carries no id; only the command under way can be meant.
            if (message.Find("error") is { } error && (message.FindText("id") ?? id) == id)
            {
                throw new FaultException(FaultReason.FailedPrecondition,
                    $"QEMU at {SocketPath} refused '{command}': {error.Text("class")}: {error.Text("desc")}");
            }
            if (message.FindText("id") != id || message.Find("return") is not { } result)
            {
                throw FaultException.Malformed($"QEMU at {SocketPath} answered '{command}' with something that is not its reply.");
            }
            return result;
        }
    }

    private static bool IsEarlier(string id, long awaited) => long.TryParse(id, NumberStyles.None, CultureInfo.InvariantCulture, out var number) && number < awaited;

    private bool Keep(JsonElement message)
    {
        if (message.FindText("event") is not { } name)
        {
            return false;
        }
        if (events.Count == EventsMax)
        {
            events.Dequeue();
        }
        events.Enqueue(new QmpEvent(name, message.Find("data") ?? default, ReadTime(message)));
        return true;
    }

    private static TimeSpan ReadTime(JsonElement message) =>
        message.Find("timestamp") is { } stamp && stamp.Find("seconds") is { ValueKind: JsonValueKind.Number } seconds && seconds.TryGetInt64(out var whole) && whole is >= 0 and < 1L << 36
            && stamp.Find("microseconds") is { ValueKind: JsonValueKind.Number } fraction && fraction.TryGetInt64(out var micros) && micros is >= 0 and < 1_000_000
            ? TimeSpan.FromSeconds(whole) + TimeSpan.FromMicroseconds(micros) : TimeSpan.Zero;

    private async Task<T> WithinAsync<T>(TimeSpan limit, Func<CancellationToken, Task<T>> work, string late, CancellationToken cancellationToken)
    {
        using var deadline = new CancellationTokenSource(limit, time);
        using var linked = CancellationTokenSource.CreateLinkedTokenSource(deadline.Token, cancellationToken);
        try
        {
            return await work(linked.Token);
        }
        catch (OperationCanceledException) when (deadline.IsCancellationRequested && !cancellationToken.IsCancellationRequested)
        {
            throw new FaultException(FaultReason.HypervisorUnavailable, late);
        }
    }

    public ValueTask DisposeAsync()
    {
        lines.Dispose();
        turn.Dispose();
        return ValueTask.CompletedTask;
    }
}
