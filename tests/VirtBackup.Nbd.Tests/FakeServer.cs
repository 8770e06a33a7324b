using System.Buffers.Binary;
using System.Text;
using VirtBackup.Nbd.Wire;

namespace VirtBackup.Nbd.Tests;

internal readonly record struct FakeRequest(ushort Flags, ushort Type, ulong Cookie, long Offset, int Length, byte[] Payload);

/// <summary>The server's half of the protocol, one step at a time, so that a test can take the wrong one.</summary>
internal sealed class FakeServer(Stream stream) : IAsyncDisposable
{
    public const long Size = 1 << 30;
    public const string Context = NbdContexts.BaseAllocation;
    public const uint ContextId = 7;

    /// <summary>A client that is connected to a fake server; the handshake was faultless.</summary>
    public static async Task<(NbdClient Client, FakeServer Server)> ConnectAsync(
        NbdClientOptions? options = null, bool structured = true, ushort flags = 0x6d)
    {
        var (near, far) = DuplexStream.CreatePair();
        var server = new FakeServer(far);
        options ??= new NbdClientOptions { MetaContexts = structured ? [Context] : [] };
        var opening = NbdClient.OpenAsync(near, options, CancellationToken.None);
        await server.HandshakeAsync(structured, flags);
        return (await opening, server);
    }

    public async Task HandshakeAsync(bool structured = true, ushort flags = 0x6d)
    {
        await GreetAsync();
        while (true)
        {
            var option = await ReadOptionAsync();
            switch (option)
            {
                case NbdWire.OptionStructuredReply:
                    await SendOptionReplyAsync(option, structured ? NbdWire.ReplyAck : NbdWire.ReplyErrorUnsupported);
                    break;
                case NbdWire.OptionSetMetaContext:
                    await SendOptionReplyAsync(option, NbdWire.ReplyMetaContext, [.. UInt32(ContextId), .. Encoding.UTF8.GetBytes(Context)]);
                    await SendOptionReplyAsync(option, NbdWire.ReplyAck);
                    break;
                case NbdWire.OptionGo:
                    await SendOptionReplyAsync(option, NbdWire.ReplyInfo, ExportInfo(Size, flags));
                    await SendOptionReplyAsync(option, NbdWire.ReplyAck);
                    return;
                default:
                    throw new InvalidOperationException($"Unexpected option {option}.");
            }
        }
    }

    public async Task GreetAsync(ushort flags = 3)
    {
        await SendAsync([.. UInt64(NbdWire.ServerMagic), .. UInt64(NbdWire.OptionMagic), .. UInt16(flags)]);
        Assert.Equal((uint)(flags & 3), BinaryPrimitives.ReadUInt32BigEndian(await ReceiveAsync(4)));
    }

    public async Task<uint> ReadOptionAsync()
    {
        var header = await ReceiveAsync(16);
        Assert.Equal(NbdWire.OptionMagic, BinaryPrimitives.ReadUInt64BigEndian(header));
        await ReceiveAsync(BinaryPrimitives.ReadInt32BigEndian(header.AsSpan(12)));
        return BinaryPrimitives.ReadUInt32BigEndian(header.AsSpan(8));
    }

    public Task SendOptionReplyAsync(uint option, uint type, params byte[] payload) => SendAsync(OptionReply(option, type, payload));

    public async Task<FakeRequest> ReadRequestAsync()
    {
        var header = await ReceiveAsync(NbdWire.RequestHeaderBytes);
        Assert.Equal(NbdWire.RequestMagic, BinaryPrimitives.ReadUInt32BigEndian(header));
        var type = BinaryPrimitives.ReadUInt16BigEndian(header.AsSpan(6));
        var length = BinaryPrimitives.ReadInt32BigEndian(header.AsSpan(24));
        var payload = type == (ushort)NbdCommand.Write ? await ReceiveAsync(length) : [];
        return new FakeRequest(BinaryPrimitives.ReadUInt16BigEndian(header.AsSpan(4)), type,
            BinaryPrimitives.ReadUInt64BigEndian(header.AsSpan(8)), BinaryPrimitives.ReadInt64BigEndian(header.AsSpan(16)), length, payload);
    }

    public async Task SendAsync(params byte[] bytes) => await stream.WriteAsync(bytes);

    public async Task<byte[]> ReceiveAsync(int count)
    {
        var bytes = new byte[count];
        await stream.ReadExactlyAsync(bytes);
        return bytes;
    }

    /// <summary>The client has read everything and waits for more; over memory only.</summary>
    public bool IsDrained => ((DuplexStream)stream).IsDrained;

    public ValueTask DisposeAsync() => stream.DisposeAsync();

    public static byte[] OptionReply(uint option, uint type, params byte[] payload) =>
        [.. UInt64(NbdWire.OptionReplyMagic), .. UInt32(option), .. UInt32(type), .. UInt32((uint)payload.Length), .. payload];

    public static byte[] ExportInfo(long size, ushort flags) => [.. UInt16(NbdWire.InfoExport), .. UInt64((ulong)size), .. UInt16(flags)];

    public static byte[] Simple(ulong cookie, uint error, params byte[] payload) =>
        [.. UInt32(NbdWire.SimpleReplyMagic), .. UInt32(error), .. UInt64(cookie), .. payload];

    public static byte[] Chunk(ulong cookie, ushort type, bool done, params byte[] payload) => Chunk(cookie, type, done, (uint)payload.Length, payload);

    public static byte[] Chunk(ulong cookie, ushort type, bool done, uint claimedLength, byte[] payload) =>
        [.. UInt32(NbdWire.StructuredReplyMagic), .. UInt16(done ? NbdWire.ChunkFlagDone : (ushort)0), .. UInt16(type), .. UInt64(cookie),
            .. UInt32(claimedLength), .. payload];

    public static byte[] Data(ulong cookie, long offset, byte[] data, bool done = false) =>
        Chunk(cookie, NbdWire.ChunkData, done, [.. UInt64((ulong)offset), .. data]);

    public static byte[] Hole(ulong cookie, long offset, uint length, bool done = false) =>
        Chunk(cookie, NbdWire.ChunkHole, done, [.. UInt64((ulong)offset), .. UInt32(length)]);

    public static byte[] Status(ulong cookie, uint context, bool done, params (uint Length, uint Flags)[] extents) =>
        Chunk(cookie, NbdWire.ChunkBlockStatus, done, [.. UInt32(context), .. extents.SelectMany(e => (byte[])[.. UInt32(e.Length), .. UInt32(e.Flags)])]);

    public static byte[] Error(ulong cookie, NbdError error, string message, long? offset = null, bool done = true)
    {
        var text = Encoding.UTF8.GetBytes(message);
        byte[] place = offset is { } at ? UInt64((ulong)at) : [];
        return Chunk(cookie, offset is null ? NbdWire.ChunkError : NbdWire.ChunkErrorOffset, done,
            [.. UInt32((uint)error), .. UInt16((ushort)text.Length), .. text, .. place]);
    }

    public static byte[] None(ulong cookie) => Chunk(cookie, NbdWire.ChunkNone, true);

    public static byte[] UInt16(ushort value) => [(byte)(value >> 8), (byte)value];

    public static byte[] UInt32(uint value) => [.. UInt16((ushort)(value >> 16)), .. UInt16((ushort)value)];

    public static byte[] UInt64(ulong value) => [.. UInt32((uint)(value >> 32)), .. UInt32((uint)value)];
}
