using System.Buffers.Binary;
using System.Net.Security;
using System.Security.Authentication;
using System.Text;
using VirtBackup.Core;

namespace VirtBackup.Nbd.Wire;

/// <summary>
/// The client's half of fixed newstyle negotiation (proto.md, "Newstyle negotiation", "Fixed newstyle negotiation"): TLS
/// first if asked for, then structured replies, metadata contexts, and NBD_OPT_GO. Reads no byte beyond its last reply,
/// so nothing that was sent in the clear can slip into the TLS session.
/// </summary>
internal sealed class Handshake(Stream stream, string server, NbdClientOptions options)
{
    private static readonly UTF8Encoding StrictUtf8 = new(false, throwOnInvalidBytes: true);

    private readonly byte[] _payload = new byte[NbdWire.OptionReplyBytesMax];
    private readonly List<NbdContext> _contexts = [];
    private int _payloadLength;

    /// <summary>The stream to go on with: the TLS one after STARTTLS.</summary>
    public Stream Stream { get; private set; } = stream;

    public static void CheckString(string text, string what)
    {
        ArgumentNullException.ThrowIfNull(text);
        if (Encoding.UTF8.GetByteCount(text) > NbdWire.StringBytesMax)
        {
            throw new FaultException(FaultReason.InvalidArgument, $"The {what} is longer than the {NbdWire.StringBytesMax} bytes that NBD allows.");
        }
    }

    public async Task<NbdExport> RunAsync(CancellationToken cancellationToken)
    {
        try
        {
            await GreetAsync(cancellationToken);
            if (options.Tls is not null)
            {
                await StartTlsAsync(options.Tls, cancellationToken);
            }
            var structured = await AskForStructuredRepliesAsync(cancellationToken);
            if (structured && options.MetaContexts.Count > 0)
            {
                await AskForContextsAsync(cancellationToken);
            }
            return await GoAsync(structured, cancellationToken);
        }
        catch (EndOfStreamException failure)
        {
            throw new FaultException(FaultReason.Unavailable, $"The NBD server at {server} closed the connection during the handshake.", failure);
        }
        catch (Exception failure) when (failure is IOException or ObjectDisposedException)
        {
            throw new FaultException(FaultReason.Unavailable, $"The connection to the NBD server at {server} broke during the handshake: {failure.Message}", failure);
        }
    }

    private async Task GreetAsync(CancellationToken cancellationToken)
    {
        var greeting = _payload.AsMemory(0, 18);
        await Stream.ReadExactlyAsync(greeting, cancellationToken);
        if (BinaryPrimitives.ReadUInt64BigEndian(greeting.Span) != NbdWire.ServerMagic)
        {
            throw NbdWire.Malformed(server, "its greeting is not NBD's");
        }
        if (BinaryPrimitives.ReadUInt64BigEndian(greeting.Span[8..]) != NbdWire.OptionMagic)
        {
            throw new FaultException(FaultReason.Unsupported, $"The NBD server at {server} does not speak the newstyle handshake; it is too old.");
        }
        var flags = BinaryPrimitives.ReadUInt16BigEndian(greeting.Span[16..]);
        if ((flags & NbdWire.FixedNewstyle) == 0)
        {
            throw new FaultException(FaultReason.Unsupported, $"The NBD server at {server} does not speak the fixed newstyle handshake; it is too old.");
        }
        // The client's flags mirror the server's: bits 0 and 1 mean the same in both.
        BinaryPrimitives.WriteUInt32BigEndian(greeting.Span, (uint)(flags & (NbdWire.FixedNewstyle | NbdWire.NoZeroes)));
        await Stream.WriteAsync(greeting[..4], cancellationToken);
    }

    private async Task StartTlsAsync(SslClientAuthenticationOptions tls, CancellationToken cancellationToken)
    {
        await SendOptionAsync(NbdWire.OptionStartTls, ReadOnlyMemory<byte>.Empty, cancellationToken);
        var reply = await ReadReplyAsync(NbdWire.OptionStartTls, cancellationToken);
        if (reply != NbdWire.ReplyAck)
        {
            throw Refusal(reply, "TLS");
        }
        var secured = new SslStream(Stream);
        Stream = secured;
        try
        {
            await secured.AuthenticateAsClientAsync(tls, cancellationToken);
        }
        catch (AuthenticationException failure)
        {
            throw new FaultException(FaultReason.Denied, $"The TLS handshake with the NBD server at {server} failed: {failure.Message}", failure);
        }
    }

    private async Task<bool> AskForStructuredRepliesAsync(CancellationToken cancellationToken)
    {
        await SendOptionAsync(NbdWire.OptionStructuredReply, ReadOnlyMemory<byte>.Empty, cancellationToken);
        var reply = await ReadReplyAsync(NbdWire.OptionStructuredReply, cancellationToken);
        return reply switch
        {
            NbdWire.ReplyAck => true,
            // Any other refusal of an optional feature leaves us with simple replies, as proto.md asks.
            NbdWire.ReplyErrorTlsRequired or NbdWire.ReplyErrorShutdown => throw Refusal(reply, "structured replies"),
            >= NbdWire.ReplyErrorBit => false,
            _ => throw NbdWire.Malformed(server, $"it answered structured replies with reply type {reply}"),
        };
    }

    private async Task AskForContextsAsync(CancellationToken cancellationToken)
    {
        using var data = new MemoryStream();
        WriteString(data, options.ExportName);
        WriteUInt32(data, (uint)options.MetaContexts.Count);
        foreach (var context in options.MetaContexts)
        {
            WriteString(data, context);
        }
        await SendOptionAsync(NbdWire.OptionSetMetaContext, data.GetBuffer().AsMemory(0, (int)data.Length), cancellationToken);
        for (var replies = 0; replies < NbdWire.OptionRepliesMax; replies++)
        {
            var reply = await ReadReplyAsync(NbdWire.OptionSetMetaContext, cancellationToken);
            switch (reply)
            {
                case NbdWire.ReplyAck:
                    return;
                case NbdWire.ReplyMetaContext:
                    AddContext();
                    break;
                case NbdWire.ReplyErrorTlsRequired or NbdWire.ReplyErrorShutdown or NbdWire.ReplyErrorUnknown:
                    throw Refusal(reply, "metadata contexts");
                case >= NbdWire.ReplyErrorBit:
                    _contexts.Clear();
                    return;
                default:
                    throw NbdWire.Malformed(server, $"it answered metadata contexts with reply type {reply}");
            }
        }
        throw NbdWire.Malformed(server, "it does not end its list of metadata contexts");
    }

    private void AddContext()
    {
        if (_payloadLength < 5)
        {
            throw NbdWire.Malformed(server, "a metadata context has no name");
        }
        var id = BinaryPrimitives.ReadUInt32BigEndian(_payload);
        string name;
        try
        {
            name = StrictUtf8.GetString(_payload.AsSpan(4, _payloadLength - 4));
        }
        catch (DecoderFallbackException)
        {
            throw NbdWire.Malformed(server, "the name of a metadata context is not UTF-8");
        }
        if (!options.MetaContexts.Contains(name))
        {
            throw NbdWire.Malformed(server, "it granted a metadata context that nobody asked for");
        }
        if (_contexts.Exists(known => known.Id == id || known.Name == name))
        {
            throw NbdWire.Malformed(server, "it granted a metadata context twice");
        }
        _contexts.Add(new NbdContext(name, id));
    }

    private async Task<NbdExport> GoAsync(bool structured, CancellationToken cancellationToken)
    {
        using var data = new MemoryStream();
        WriteString(data, options.ExportName);
        // One information request: by asking for block sizes we promise to obey them.
        data.Write([0, 1, 0, (byte)NbdWire.InfoBlockSize]);
        await SendOptionAsync(NbdWire.OptionGo, data.GetBuffer().AsMemory(0, (int)data.Length), cancellationToken);

        (long Size, NbdExportFlags Flags)? export = null;
        var sizes = new NbdBlockSizes(1, 4096, NbdWire.PayloadBytesMax);
        for (var replies = 0; replies < NbdWire.OptionRepliesMax; replies++)
        {
            var reply = await ReadReplyAsync(NbdWire.OptionGo, cancellationToken);
            switch (reply)
            {
                case NbdWire.ReplyAck when export is { } known:
                    return new NbdExport(known.Size, known.Flags, sizes, structured, _contexts);
                case NbdWire.ReplyAck:
                    throw NbdWire.Malformed(server, "it opened the export without telling its size");
                case NbdWire.ReplyInfo:
                    if (_payloadLength < 2)
                    {
                        throw NbdWire.Malformed(server, "a piece of information has no type");
                    }
                    switch (BinaryPrimitives.ReadUInt16BigEndian(_payload))
                    {
                        case NbdWire.InfoExport:
                            export = ParseExport();
                            break;
                        case NbdWire.InfoBlockSize:
                            sizes = ParseBlockSizes();
                            break;
                    }
                    break;
                case NbdWire.ReplyErrorUnknown:
                    throw new FaultException(FaultReason.NotFound, $"The NBD server at {server} has no export named '{options.ExportName}'{Words()}.");
                case >= NbdWire.ReplyErrorBit:
                    throw Refusal(reply, $"the export '{options.ExportName}'");
                default:
                    throw NbdWire.Malformed(server, $"it answered the choice of an export with reply type {reply}");
            }
        }
        throw NbdWire.Malformed(server, "it does not end its description of the export");
    }

    private (long Size, NbdExportFlags Flags) ParseExport()
    {
        if (_payloadLength != 12)
        {
            throw NbdWire.Malformed(server, $"the export's description has {_payloadLength} bytes");
        }
        var size = BinaryPrimitives.ReadUInt64BigEndian(_payload.AsSpan(2));
        var flags = BinaryPrimitives.ReadUInt16BigEndian(_payload.AsSpan(10));
        if (size > Limits.DiskBytesMax)
        {
            throw NbdWire.Malformed(server, $"an export of {size} bytes is larger than any disk");
        }
        if ((flags & 1) == 0)
        {
            // NBD_FLAG_HAS_FLAGS clear: the other bits mean nothing.
            flags = 0;
        }
        return ((long)size, (NbdExportFlags)(flags & 0x1fe));
    }

    private NbdBlockSizes ParseBlockSizes()
    {
        if (_payloadLength != 14)
        {
            throw NbdWire.Malformed(server, $"the block sizes have {_payloadLength} bytes");
        }
        var minimum = BinaryPrimitives.ReadUInt32BigEndian(_payload.AsSpan(2));
        var preferred = BinaryPrimitives.ReadUInt32BigEndian(_payload.AsSpan(6));
        var maximum = BinaryPrimitives.ReadUInt32BigEndian(_payload.AsSpan(10));
        const uint minimumMax = 64 << 10;
        if (!uint.IsPow2(minimum) || minimum > minimumMax || !uint.IsPow2(preferred) || preferred < minimum || preferred > NbdWire.PayloadBytesMax
            || maximum < minimum || (maximum != uint.MaxValue && maximum % minimum != 0))
        {
            throw NbdWire.Malformed(server, $"block sizes {minimum}, {preferred}, {maximum} make no sense");
        }
        return new NbdBlockSizes((int)minimum, (int)preferred, (int)Math.Min(maximum, NbdWire.PayloadBytesMax));
    }

    private async Task SendOptionAsync(uint option, ReadOnlyMemory<byte> data, CancellationToken cancellationToken)
    {
        var message = new byte[16 + data.Length];
        BinaryPrimitives.WriteUInt64BigEndian(message, NbdWire.OptionMagic);
        BinaryPrimitives.WriteUInt32BigEndian(message.AsSpan(8), option);
        BinaryPrimitives.WriteUInt32BigEndian(message.AsSpan(12), (uint)data.Length);
        data.Span.CopyTo(message.AsSpan(16));
        await Stream.WriteAsync(message, cancellationToken);
        await Stream.FlushAsync(cancellationToken);
    }

    /// <summary>Reads one reply to <paramref name="option"/>: its payload into the buffer, its type as the result.</summary>
    private async Task<uint> ReadReplyAsync(uint option, CancellationToken cancellationToken)
    {
        var header = _payload.AsMemory(0, NbdWire.OptionReplyHeaderBytes);
        await Stream.ReadExactlyAsync(header, cancellationToken);
        if (BinaryPrimitives.ReadUInt64BigEndian(header.Span) != NbdWire.OptionReplyMagic
            || BinaryPrimitives.ReadUInt32BigEndian(header.Span[8..]) != option)
        {
            throw NbdWire.Malformed(server, "an option reply does not belong to the option that was sent");
        }
        var type = BinaryPrimitives.ReadUInt32BigEndian(header.Span[12..]);
        var length = BinaryPrimitives.ReadUInt32BigEndian(header.Span[16..]);
        if (length > _payload.Length || (type == NbdWire.ReplyAck && length != 0))
        {
            throw NbdWire.Malformed(server, $"an option reply of type {type} claims {length} bytes");
        }
        _payloadLength = (int)length;
        await Stream.ReadExactlyAsync(_payload.AsMemory(0, _payloadLength), cancellationToken);
        return type;
    }

    private FaultException Refusal(uint reply, string what)
    {
        if ((reply & NbdWire.ReplyErrorBit) == 0)
        {
            return NbdWire.Malformed(server, $"it answered {what} with reply type {reply}");
        }
        return reply switch
        {
            NbdWire.ReplyErrorTlsRequired => new FaultException(FaultReason.Denied,
                $"The NBD server at {server} serves only TLS connections{Words()}: configure TLS for it."),
            NbdWire.ReplyErrorPolicy => new FaultException(FaultReason.Denied, $"The NBD server at {server} does not permit {what}{Words()}."),
            NbdWire.ReplyErrorShutdown => new FaultException(FaultReason.Unavailable, $"The NBD server at {server} is shutting down{Words()}."),
            NbdWire.ReplyErrorUnsupported => new FaultException(FaultReason.Unsupported, $"The NBD server at {server} does not support {what}{Words()}."),
            _ => new FaultException(FaultReason.FailedPrecondition,
                $"The NBD server at {server} refused {what} with error {reply & ~NbdWire.ReplyErrorBit}{Words()}."),
        };
    }

    private string Words() => NbdWire.Printable(_payload.AsSpan(0, _payloadLength)) is { } words ? $" ({words})" : "";

    private static void WriteUInt32(MemoryStream data, uint value)
    {
        Span<byte> bytes = stackalloc byte[4];
        BinaryPrimitives.WriteUInt32BigEndian(bytes, value);
        data.Write(bytes);
    }

    private static void WriteString(MemoryStream data, string text)
    {
        var bytes = Encoding.UTF8.GetBytes(text);
        WriteUInt32(data, (uint)bytes.Length);
        data.Write(bytes);
    }
}
