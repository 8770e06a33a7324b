using VirtBackup.Core;
using VirtBackup.Nbd.Wire;
using static VirtBackup.Nbd.Tests.FakeServer;

namespace VirtBackup.Nbd.Tests;

/// <summary>What servers must not send: each of it closes the connection, for the call it answers and for every other one.</summary>
public sealed class ViolationTests
{
    private static CancellationToken Token => TestContext.Current.CancellationToken;

    /// <summary>Replies to a read of 4096 bytes at offset 8192 over structured replies.</summary>
    public static TheoryData<string> BadReadReplies => [.. ReadReplies.Keys];

    private static Dictionary<string, Func<ulong, byte[]>> ReadReplies { get; } = new()
    {
        ["wrong magic"] = cookie => [.. UInt32(0xdeadbeef), .. new byte[16]],
        ["wrong cookie"] = cookie => Data(cookie + 1, 8192, new byte[4096], done: true),
        ["slot out of range"] = cookie => Data(cookie | 0xffff, 8192, new byte[4096], done: true),
        ["earlier use of the slot"] = cookie => None(cookie - (1UL << 32)),
        ["too much data"] = cookie => Data(cookie, 8192, new byte[4097]),
        ["a chunk of 4 GiB"] = cookie => Chunk(cookie, NbdWire.ChunkData, false, uint.MaxValue, UInt64(8192)),
        ["data before the request"] = cookie => Data(cookie, 8191, new byte[4096]),
        ["data behind the request"] = cookie => Data(cookie, 12_288, new byte[1]),
        ["data at the end of the number space"] = cookie => Data(cookie, -1, new byte[1]),
        ["data of no length"] = cookie => Data(cookie, 8192, []),
        ["data without an offset"] = cookie => Chunk(cookie, NbdWire.ChunkData, false, new byte[7]),
        ["overlapping data"] = cookie => [.. Data(cookie, 8192, new byte[512]), .. Data(cookie, 8703, new byte[10])],
        ["the same data twice"] = cookie => [.. Data(cookie, 8192, new byte[4096]), .. Data(cookie, 8192, new byte[4096], done: true)],
        ["a hole over data"] = cookie => [.. Data(cookie, 8192, new byte[512]), .. Hole(cookie, 8192, 4096, done: true)],
        ["a hole of no length"] = cookie => Hole(cookie, 8192, 0),
        ["a hole that is too long"] = cookie => Hole(cookie, 8192, 4097),
        ["a hole of 13 bytes"] = cookie => Chunk(cookie, NbdWire.ChunkHole, false, new byte[13]),
        ["missing data"] = cookie => [.. Data(cookie, 8192, new byte[4095]), .. None(cookie)],
        ["a gap"] = cookie => [.. Data(cookie, 8192, new byte[1000]), .. Data(cookie, 9193, new byte[3095], done: true)],
        ["no data"] = None,
        ["an end that is none"] = cookie => Chunk(cookie, NbdWire.ChunkNone, false),
        ["an end with payload"] = cookie => Chunk(cookie, NbdWire.ChunkNone, true, 1),
        ["an answer behind the end"] = cookie => [.. Data(cookie, 8192, new byte[4096], done: true), .. None(cookie)],
        ["a simple reply"] = cookie => Simple(cookie, 0, new byte[4096]),
        ["a block status"] = cookie => Status(cookie, ContextId, true, (4096, 0)),
        ["an unknown chunk"] = cookie => Chunk(cookie, 77, true),
        ["an error that is none"] = cookie => Error(cookie, 0, ""),
        ["an error without a message length"] = cookie => Chunk(cookie, NbdWire.ChunkError, true, new byte[5]),
        ["a message longer than its chunk"] = cookie => Chunk(cookie, NbdWire.ChunkError, true, [.. UInt32(5), .. UInt16(10), .. new byte[9]]),
        ["an error chunk of 1 GiB"] = cookie => Chunk(cookie, NbdWire.ChunkError, true, 1 << 30, UInt32(5)),
        ["an error outside the request"] = cookie => Error(cookie, NbdError.InputOutput, "", 12_288),
    };

    [Theory]
    [MemberData(nameof(BadReadReplies))]
    public async Task ABadReplyToAReadClosesTheConnection(string what)
    {
        var (client, server) = await ConnectAsync();
        await using var _ = client;
        await using var __ = server;
        var buffer = new byte[4096];
        var reading = client.ReadAsync(8192, buffer, Token).AsTask();
        var request = await server.ReadRequestAsync();
        var other = client.FlushAsync(Token).AsTask();
        await server.ReadRequestAsync();
        await server.SendAsync(ReadReplies[what](request.Cookie));

        var failures = new List<FaultException> { await Assert.ThrowsAsync<FaultException>(() => other) };
        if (what != "an answer behind the end")
        {
            failures.Add(await Assert.ThrowsAsync<FaultException>(() => reading));
        }
        failures.Add(await Assert.ThrowsAsync<FaultException>(() => client.ReadAsync(0, buffer, Token).AsTask()));
        Assert.All(failures, failure => Assert.Equal(FaultReason.Malformed, failure.Reason));
    }

    /// <summary>Replies to a block status of 65,536 bytes at offset 65,536.</summary>
    public static TheoryData<string> BadStatusReplies => [.. StatusReplies.Keys];

    private static Dictionary<string, Func<ulong, byte[]>> StatusReplies { get; } = new()
    {
        ["no context"] = None,
        ["a context that was not negotiated"] = cookie => Status(cookie, 8, true, (65_536, 0)),
        ["a context twice"] = cookie => [.. Status(cookie, ContextId, false, (65_536, 0)), .. Status(cookie, ContextId, true, (65_536, 0))],
        ["no extents"] = cookie => Chunk(cookie, NbdWire.ChunkBlockStatus, true, UInt32(ContextId)),
        ["half an extent"] = cookie => Chunk(cookie, NbdWire.ChunkBlockStatus, true, [.. UInt32(ContextId), .. new byte[12]]),
        ["an empty extent"] = cookie => Status(cookie, ContextId, true, (512, 0), (0, 1)),
        ["an extent behind the range"] = cookie => Status(cookie, ContextId, true, (65_536, 0), (512, 1)),
        ["too many extents"] = cookie => Chunk(cookie, NbdWire.ChunkBlockStatus, true, 4 + (8 * (NbdWire.DescriptorsMax + 1)), UInt32(ContextId)),
        ["data"] = cookie => Data(cookie, 65_536, new byte[65_536], done: true),
        ["a simple reply"] = cookie => Simple(cookie, 0),
    };

    [Theory]
    [MemberData(nameof(BadStatusReplies))]
    public async Task ABadBlockStatusClosesTheConnection(string what)
    {
        var (client, server) = await ConnectAsync();
        await using var _ = client;
        await using var __ = server;
        var asking = client.BlockStatusAsync(Context, 65_536, 65_536, Token).ToListAsync(Token).AsTask();
        var request = await server.ReadRequestAsync();
        await server.SendAsync(StatusReplies[what](request.Cookie));
        Assert.Equal(FaultReason.Malformed, (await Assert.ThrowsAsync<FaultException>(() => asking)).Reason);
    }

    [Fact]
    public async Task AStructuredReplyThatWasNotNegotiatedClosesTheConnection()
    {
        var (client, server) = await ConnectAsync(structured: false);
        await using var _ = client;
        await using var __ = server;
        var reading = client.ReadAsync(0, new byte[512], Token).AsTask();
        var request = await server.ReadRequestAsync();
        await server.SendAsync(Data(request.Cookie, 0, new byte[512], done: true));
        Assert.Equal(FaultReason.Malformed, (await Assert.ThrowsAsync<FaultException>(() => reading)).Reason);
    }

    [Fact]
    public async Task ATruncatedReplyIsALostConnection()
    {
        var (client, server) = await ConnectAsync();
        await using var _ = client;
        var reading = client.ReadAsync(0, new byte[50_000], Token).AsTask();
        var request = await server.ReadRequestAsync();
        await server.SendAsync(Data(request.Cookie, 0, new byte[50_000], done: true)[..40_000]);
        await server.DisposeAsync();
        Assert.Equal(FaultReason.Unavailable, (await Assert.ThrowsAsync<FaultException>(() => reading)).Reason);
        Assert.Equal(FaultReason.Unavailable, (await Assert.ThrowsAsync<FaultException>(() => client.FlushAsync(Token).AsTask())).Reason);
    }

    public static TheoryData<string> BadHandshakes => [.. Handshakes.Keys];

    private static Dictionary<string, (FaultReason Reason, byte[] Bytes)> Handshakes { get; } = CreateHandshakes();

    private static Dictionary<string, (FaultReason, byte[])> CreateHandshakes()
    {
        byte[] greeting = [.. UInt64(NbdWire.ServerMagic), .. UInt64(NbdWire.OptionMagic), .. UInt16(3)];
        byte[] structured = [.. greeting, .. OptionReply(NbdWire.OptionStructuredReply, NbdWire.ReplyAck)];
        byte[] contexts = [.. structured, .. OptionReply(NbdWire.OptionSetMetaContext, NbdWire.ReplyAck)];
        byte[] Granting(uint id, string name) => OptionReply(NbdWire.OptionSetMetaContext, NbdWire.ReplyMetaContext, [.. UInt32(id), .. System.Text.Encoding.Latin1.GetBytes(name)]);
        byte[] Going(uint type, params byte[] payload) => OptionReply(NbdWire.OptionGo, type, payload);
        byte[] Sizes(uint minimum, uint preferred, uint maximum) =>
            [.. contexts, .. Going(NbdWire.ReplyInfo, [.. UInt16(NbdWire.InfoBlockSize), .. UInt32(minimum), .. UInt32(preferred), .. UInt32(maximum)])];
        var endless = Enumerable.Repeat(Going(NbdWire.ReplyInfo, [0, 9]), NbdWire.OptionRepliesMax + 1).SelectMany(reply => reply);
        return new()
        {
            ["not NBD"] = (FaultReason.Malformed, "SSH-2.0-OpenSSH_9.2p1 Debian"u8.ToArray()),
            ["old style"] = (FaultReason.Unsupported, [.. UInt64(NbdWire.ServerMagic), .. UInt64(0x00420281861253), .. new byte[136]]),
            ["not fixed"] = (FaultReason.Unsupported, [.. greeting[..16], 0, 2]),
            ["silence and close"] = (FaultReason.Unavailable, greeting[..10]),
            ["reply magic"] = (FaultReason.Malformed, [.. greeting, .. new byte[20]]),
            ["reply to another option"] = (FaultReason.Malformed, [.. greeting, .. OptionReply(NbdWire.OptionGo, NbdWire.ReplyAck)]),
            ["an acknowledgement with payload"] = (FaultReason.Malformed, [.. greeting, .. OptionReply(NbdWire.OptionStructuredReply, NbdWire.ReplyAck, 1)]),
            ["a reply of 4 GiB"] = (FaultReason.Malformed,
                [.. greeting, .. UInt64(NbdWire.OptionReplyMagic), .. UInt32(NbdWire.OptionStructuredReply), .. UInt32(NbdWire.ReplyErrorUnsupported), .. UInt32(uint.MaxValue)]),
            ["an unasked context"] = (FaultReason.Malformed, [.. structured, .. Granting(1, "base:everything")]),
            ["a context twice"] = (FaultReason.Malformed, [.. structured, .. Granting(1, Context), .. Granting(2, Context)]),
            ["a context without a name"] = (FaultReason.Malformed, [.. structured, .. Granting(1, "")]),
            ["a name that is not UTF-8"] = (FaultReason.Malformed, [.. structured, .. Granting(1, "\xff")]),
            ["no size"] = (FaultReason.Malformed, [.. contexts, .. Going(NbdWire.ReplyAck)]),
            ["short information"] = (FaultReason.Malformed, [.. contexts, .. Going(NbdWire.ReplyInfo, 0)]),
            ["short export"] = (FaultReason.Malformed, [.. contexts, .. Going(NbdWire.ReplyInfo, ExportInfo(1, 1)[..11])]),
            ["a negative size"] = (FaultReason.Malformed, [.. contexts, .. Going(NbdWire.ReplyInfo, ExportInfo(-1, 1))]),
            ["block sizes out of step"] = (FaultReason.Malformed, Sizes(768, 4096, 1 << 20)),
            ["a minimum of nothing"] = (FaultReason.Malformed, Sizes(0, 4096, 1 << 20)),
            ["a maximum below the minimum"] = (FaultReason.Malformed, Sizes(512, 4096, 0)),
            ["endless information"] = (FaultReason.Malformed, [.. contexts, .. endless]),
            ["an unknown export"] = (FaultReason.NotFound, [.. contexts, .. Going(NbdWire.ReplyErrorUnknown, "no such\x1b[2J"u8.ToArray())]),
            ["policy"] = (FaultReason.Denied, [.. contexts, .. Going(NbdWire.ReplyErrorPolicy)]),
            ["TLS required"] = (FaultReason.Denied, [.. greeting, .. OptionReply(NbdWire.OptionStructuredReply, NbdWire.ReplyErrorTlsRequired)]),
            ["shutting down"] = (FaultReason.Unavailable, [.. contexts, .. Going(NbdWire.ReplyErrorShutdown)]),
            ["no NBD_OPT_GO"] = (FaultReason.Unsupported, [.. contexts, .. Going(NbdWire.ReplyErrorUnsupported)]),
        };
    }

    [Theory]
    [MemberData(nameof(BadHandshakes))]
    public async Task ABadHandshakeIsRefused(string what)
    {
        var (near, far) = DuplexStream.CreatePair();
        await far.WriteAsync(Handshakes[what].Bytes, Token);
        var opening = NbdClient.OpenAsync(near, new NbdClientOptions { MetaContexts = [Context] }, Token);
        if (Handshakes[what].Reason == FaultReason.Unavailable)
        {
            far.CloseSending();
        }
        var failure = await Assert.ThrowsAsync<FaultException>(() => opening);
        Assert.Equal(Handshakes[what].Reason, failure.Reason);
        Assert.DoesNotContain('\x1b', failure.Message);
        // The stream is the client's, so a failed handshake has closed it.
        await Assert.ThrowsAnyAsync<Exception>(async () => await near.ReadExactlyAsync(new byte[1], Token));
    }
}
