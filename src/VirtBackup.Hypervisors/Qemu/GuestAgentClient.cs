using System.Buffers.Binary;
using System.Text.Json;
using System.Text.Json.Nodes;
using VirtBackup.Core;
using VirtBackup.Hypervisors.Guests;

namespace VirtBackup.Hypervisors.Qemu;

/// <summary>
/// The QEMU guest agent over its socket (QEMU docs/interop/qemu-ga-ref). The channel has no end of its own: a guest
/// without an agent swallows requests in silence, so every call has a time limit. Not safe for concurrent use.
/// </summary>
internal sealed class GuestAgentClient : IGuestAgent
{
    private const int ReplyBytesMax = 1 << 20;
    private const byte Sentinel = 0xff;
    private static readonly TimeSpan SendTimeout = TimeSpan.FromSeconds(2);
    private readonly JsonLineSocket lines;
    private readonly TimeProvider time;
    private readonly IEntropy entropy;
    // An answer to an earlier request may still come, and must not be taken for that to the next.
    private bool isAnswerOwed;

    private GuestAgentClient(JsonLineSocket lines, TimeProvider time, IEntropy entropy)
    {
        this.lines = lines;
        this.time = time;
        this.entropy = entropy;
    }

    /// <summary>Connects and synchronises: after it, replies to requests of earlier clients are out of the way.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.HypervisorUnavailable"/>: no agent answers.</exception>
    public static async Task<GuestAgentClient> ConnectAsync(string path, TimeProvider time, IEntropy entropy, TimeSpan timeout, CancellationToken cancellationToken)
    {
        var client = new GuestAgentClient(await JsonLineSocket.ConnectAsync(path, ReplyBytesMax, time, timeout, cancellationToken), time, entropy);
        try
        {
            await client.SynchroniseAsync(timeout, cancellationToken);
            return client;
        }
        catch
        {
            await client.DisposeAsync();
            throw;
        }
    }

    public async Task PingAsync(TimeSpan timeout, CancellationToken cancellationToken) =>
        await ExecuteAsync("guest-ping", null, timeout, cancellationToken);

    /// <summary>Freezes all file systems.</summary>
    /// <returns>How many were frozen.</returns>
    public async Task<long> FreezeAsync(TimeSpan timeout, CancellationToken cancellationToken) =>
        Count(await ExecuteAsync("guest-fsfreeze-freeze", null, timeout, cancellationToken));

    /// <summary>Thaws what was frozen; harmless when nothing is. Tries once more when the agent does not answer properly.</summary>
    /// <returns>How many were thawed by the answered request.</returns>
    public async Task<long> ThawAsync(TimeSpan timeout, CancellationToken cancellationToken)
    {
        try
        {
            return Count(await ExecuteAsync("guest-fsfreeze-thaw", null, timeout, cancellationToken));
        }
        catch (FaultException)
        {
            await AskToThawAsync(cancellationToken);
            await SynchroniseAsync(timeout, cancellationToken);
            return Count(await ExecuteAsync("guest-fsfreeze-thaw", null, timeout, cancellationToken));
        }
    }

    /// <summary>Sends a thaw and waits for no answer: the agent carries it out after whatever it is doing.</summary>
    public async Task AskToThawAsync(CancellationToken cancellationToken)
    {
        isAnswerOwed = true;
        using var deadline = new CancellationTokenSource(SendTimeout, time);
        using var linked = CancellationTokenSource.CreateLinkedTokenSource(deadline.Token, cancellationToken);
        try
        {
            await lines.SendAsync(Request("guest-fsfreeze-thaw", null), [Sentinel], linked.Token);
        }
        catch (Exception failure) when (failure is FaultException || (failure is OperationCanceledException && !cancellationToken.IsCancellationRequested))
        {
            // Nobody is there to be told, or the channel is full because nobody reads it.
        }
    }

    public async Task<JsonElement> ExecuteAsync(string command, JsonObject? arguments, TimeSpan timeout, CancellationToken cancellationToken) =>
        await WithinAsync(async token =>
        {
            if (isAnswerOwed)
            {
                await ReadPastAsync(token);
            }
            isAnswerOwed = true;
            await lines.SendAsync(Request(command, arguments), null, token);
            var reply = await lines.ReceiveAsync(null, token);
            isAnswerOwed = false;
            if (reply.Find("error") is { } error)
            {
                throw new FaultException(FaultReason.FailedPrecondition, $"The guest agent refused '{command}': {error.Text("class")}: {error.Text("desc")}");
            }
            return reply.Find("return") ?? throw FaultException.Malformed($"The guest agent's answer to '{command}' is not a reply.");
        }, $"The guest agent at {lines.Path} did not answer '{command}' within {timeout.TotalSeconds:0.#} s.", timeout, cancellationToken);

    private async Task SynchroniseAsync(TimeSpan timeout, CancellationToken cancellationToken) =>
        await WithinAsync(async token =>
        {
            await ReadPastAsync(token);
            return true;
        }, $"The guest agent at {lines.Path} did not answer within {timeout.TotalSeconds:0.#} s: it is not running, or another program is connected to its socket.",
            timeout, cancellationToken);

    // Whatever was asked for before is answered, or dropped, when the agent says the number.
    private async Task ReadPastAsync(CancellationToken cancellationToken)
    {
        var id = NextId();
        await lines.SendAsync(Request("guest-sync-delimited", new JsonObject { ["id"] = id }), [Sentinel], cancellationToken);
        while (true)
        {
            JsonElement reply;
            try
            {
                reply = await lines.ReceiveAsync(Sentinel, cancellationToken);
            }
            catch (FaultException fault) when (fault.Reason == FaultReason.Malformed)
            {
                continue; // the torn tail of a reply to an earlier client
            }
            if (reply.Find("return") is { ValueKind: JsonValueKind.Number } value && value.TryGetInt64(out var echoed) && echoed == id)
            {
                isAnswerOwed = false;
                return;
            }
        }
    }

    private long NextId()
    {
        Span<byte> bytes = stackalloc byte[4];
        entropy.Fill(bytes);
        return BinaryPrimitives.ReadUInt32LittleEndian(bytes) >> 1;
    }

    private static JsonObject Request(string command, JsonObject? arguments)
    {
        var request = new JsonObject { ["execute"] = command };
        if (arguments is not null)
        {
            request["arguments"] = arguments;
        }
        return request;
    }

    private static long Count(JsonElement reply) =>
        reply.ValueKind == JsonValueKind.Number && reply.TryGetInt64(out var count) ? count : throw FaultException.Malformed("The guest agent did not answer with a count.");

    private async Task<T> WithinAsync<T>(Func<CancellationToken, Task<T>> work, string late, TimeSpan limit, CancellationToken cancellationToken)
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
        return ValueTask.CompletedTask;
    }
}
