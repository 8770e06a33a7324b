using System.Text;
using VirtBackup.Core;

namespace VirtBackup.Nbd.Wire;

/// <summary>Numbers of the protocol (NetworkBlockDevice/nbd, doc/proto.md) and the bounds that this client sets. All fields are big-endian.</summary>
internal static class NbdWire
{
    public const ulong ServerMagic = 0x4e42444d41474943; // "NBDMAGIC"
    public const ulong OptionMagic = 0x49484156454f5054; // "IHAVEOPT"
    public const ulong OptionReplyMagic = 0x0003e889045565a9;
    public const uint RequestMagic = 0x25609513;
    public const uint SimpleReplyMagic = 0x67446698;
    public const uint StructuredReplyMagic = 0x668e33ef;

    public const ushort FixedNewstyle = 1;
    public const ushort NoZeroes = 2;

    public const uint OptionStartTls = 5;
    public const uint OptionGo = 7;
    public const uint OptionStructuredReply = 8;
    public const uint OptionSetMetaContext = 10;

    public const uint ReplyAck = 1;
    public const uint ReplyInfo = 3;
    public const uint ReplyMetaContext = 4;
    public const uint ReplyErrorBit = 1u << 31;
    public const uint ReplyErrorUnsupported = ReplyErrorBit + 1;
    public const uint ReplyErrorPolicy = ReplyErrorBit + 2;
    public const uint ReplyErrorTlsRequired = ReplyErrorBit + 5;
    public const uint ReplyErrorUnknown = ReplyErrorBit + 6;
    public const uint ReplyErrorShutdown = ReplyErrorBit + 7;

    public const ushort InfoExport = 0;
    public const ushort InfoBlockSize = 3;

    public const ushort ChunkFlagDone = 1;
    public const ushort ChunkNone = 0;
    public const ushort ChunkData = 1;
    public const ushort ChunkHole = 2;
    public const ushort ChunkBlockStatus = 5;
    public const ushort ChunkErrorBit = 1 << 15;
    public const ushort ChunkError = ChunkErrorBit + 1;
    public const ushort ChunkErrorOffset = ChunkErrorBit + 2;

    public const int RequestHeaderBytes = 28;
    public const int SimpleReplyHeaderBytes = 16;
    public const int StructuredReplyHeaderBytes = 20;
    public const int OptionReplyHeaderBytes = 20;

    /// <summary>"NBD strings are at most 4096 bytes" (proto.md, "Protocol phases").</summary>
    public const int StringBytesMax = 4096;

    /// <summary>Payload of one option reply; the largest that the protocol defines needs a string and a few fields.</summary>
    public const int OptionReplyBytesMax = 2 * StringBytesMax;

    /// <summary>Replies to one option.</summary>
    public const int OptionRepliesMax = 256;

    /// <summary>Payload of an error chunk: a message of 65,535 bytes at most, and room for fields of later extensions.</summary>
    public const int ErrorChunkBytesMax = 128 << 10;

    /// <summary>Portable clients carry no more in one request, whatever the server says.</summary>
    public const int PayloadBytesMax = 32 << 20;

    /// <summary>Range of one request without payload (trim, write zeroes, block status).</summary>
    public const int RangeBytesMax = 1 << 30;

    /// <summary>Descriptors in one block status chunk; nbdkit's own bound.</summary>
    public const int DescriptorsMax = 1 << 20;

    /// <summary>A server's text as it may be shown: printable and short; null when nothing is left.</summary>
    public static string? Printable(ReadOnlySpan<byte> utf8)
    {
        const int charactersMax = 512;
        var text = new StringBuilder();
        foreach (var rune in Encoding.UTF8.GetString(utf8).EnumerateRunes())
        {
            if (text.Length >= charactersMax - 1)
            {
                break;
            }
            text.Append(Rune.IsControl(rune) ? " " : rune.ToString());
        }
        var result = text.ToString().Trim().TrimEnd('.');
        return result.Length == 0 ? null : result;
    }

    public static FaultException Malformed(string server, string what) =>
        FaultException.Malformed($"The NBD server at {server} broke the protocol: {what}. The connection was closed.");
}
