using System.Security.Cryptography;
using VirtBackup.Core;

namespace VirtBackup.Format.Keys;

/// <summary>
/// A private key wrapped under the root secret (FORMAT.md, "Keyring object"): PKCS #8 in AES-256-GCM. Parsing proves
/// form and hash only.
/// </summary>
/// <param name="Id">Key id of the wrapped key's public half.</param>
/// <param name="Sealed">nonce 12 ‖ ciphertext ‖ tag 16.</param>
public sealed record WrappedKey(Id16 Id, ReadOnlyMemory<byte> Sealed)
{
    /// <summary>Largest object, bytes.</summary>
    public const int BytesMax = 4096;

    /// <summary>Bytes in front of the sealed key: its additional authenticated data.</summary>
    public const int HeadSize = 32;

    private const byte FormatVersion = 1;
    private const byte AesGcm256 = 1;

    private static ReadOnlySpan<byte> Magic => "VBWRAP\r\n"u8;

    /// <summary>The head for a sealed key of <paramref name="sealedLength"/> bytes.</summary>
    public static byte[] HeadOf(Id16 id, int sealedLength)
    {
        var head = new byte[HeadSize];
        var writer = new ByteWriter(head);
        writer.Bytes(Magic);
        writer.Byte(FormatVersion);
        writer.Byte(AesGcm256);
        writer.UInt16(0);
        writer.UInt32((uint)sealedLength);
        writer.Id16(id);
        return head;
    }

    public byte[] ToBytes()
    {
        Check.That(Sealed.Length is > 28 and <= BytesMax - HeadSize - Id32.Size);
        var bytes = new byte[HeadSize + Sealed.Length + Id32.Size];
        var writer = new ByteWriter(bytes);
        writer.Bytes(HeadOf(Id, Sealed.Length));
        writer.Bytes(Sealed.Span);
        SHA256.HashData(bytes.AsSpan(0, writer.Position), writer.Take(Id32.Size));
        return bytes;
    }

    /// <exception cref="FaultException"><see cref="FaultReason.Malformed"/>, <see cref="FaultReason.Corrupt"/> or <see cref="FaultReason.Unsupported"/>.</exception>
    public static WrappedKey Parse(ReadOnlySpan<byte> bytes)
    {
        if (bytes.Length is <= HeadSize + 28 + Id32.Size or > BytesMax)
        {
            throw FaultException.Malformed($"A keyring object of {bytes.Length} bytes is out of bounds.");
        }
        Span<byte> hash = stackalloc byte[Id32.Size];
        SHA256.HashData(bytes[..^Id32.Size], hash);
        if (!hash.SequenceEqual(bytes[^Id32.Size..]))
        {
            throw FaultException.Corrupt("The keyring object does not match its hash.");
        }
        var reader = new ByteReader(bytes, "keyring object");
        reader.Expect(Magic, "magic");
        reader.Version(FormatVersion);
        var algorithm = reader.Byte();
        if (algorithm != AesGcm256)
        {
            throw new FaultException(FaultReason.Unsupported, $"The keyring object uses algorithm {algorithm}, which this program does not know. Use a newer release.");
        }
        reader.Reserved(2);
        var length = reader.Count(BytesMax, "length");
        var id = reader.Id16();
        return length == reader.Remaining - Id32.Size
            ? new WrappedKey(id, reader.Take(length).ToArray())
            : throw FaultException.Malformed("The keyring object does not have the length that its head calls for.");
    }
}
