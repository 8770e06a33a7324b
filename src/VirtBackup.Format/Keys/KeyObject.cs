using System.Security.Cryptography;
using VirtBackup.Core;

namespace VirtBackup.Format.Keys;

/// <summary>
/// A VM key sealed to one recipient (FORMAT.md, "Key object"). Parsing proves form and hash; opening needs the
/// recipient's private key (VirtBackup.Sealing).
/// </summary>
public sealed record KeyObject
{
    /// <summary>Bytes of the object.</summary>
    public const int Size = 233;

    /// <summary>ECDH P-256, HKDF-SHA-256, AES-256-GCM.</summary>
    public const byte EciesP256 = 1;

    /// <summary>An uncompressed P-256 point.</summary>
    public const int PointBytes = 65;

    /// <summary>nonce 12 ‖ ciphertext 32 ‖ tag 16.</summary>
    public const int SealedBytes = 60;

    private const byte FormatVersion = 1;

    private static ReadOnlySpan<byte> Magic => "VBKEY\r\n\x1a"u8;

    public required Id16 Repository { get; init; }
    public required Id16 Vm { get; init; }
    public required Id16 Epoch { get; init; }

    /// <summary>Key id of the recipient's public key.</summary>
    public required Id16 Recipient { get; init; }

    /// <summary>The sender's one-time public key.</summary>
    public required ReadOnlyMemory<byte> Ephemeral { get; init; }

    /// <summary>nonce ‖ ciphertext ‖ tag.</summary>
    public required ReadOnlyMemory<byte> Sealed { get; init; }

    public byte[] ToBytes()
    {
        Check.That(Ephemeral.Length == PointBytes && Ephemeral.Span[0] == 4 && Sealed.Length == SealedBytes);
        Check.That(!Repository.IsEmpty && !Vm.IsEmpty && !Epoch.IsEmpty && !Recipient.IsEmpty);
        var bytes = new byte[Size];
        var writer = new ByteWriter(bytes);
        writer.Bytes(Magic);
        writer.Byte(FormatVersion);
        writer.Byte(EciesP256);
        writer.UInt16(0);
        writer.Id16(Repository);
        writer.Id16(Vm);
        writer.Id16(Epoch);
        writer.Id16(Recipient);
        writer.Bytes(Ephemeral.Span);
        writer.Bytes(Sealed.Span);
        SHA256.HashData(bytes.AsSpan(0, writer.Position), writer.Take(Id32.Size));
        return bytes;
    }

    /// <exception cref="FaultException"><see cref="FaultReason.Malformed"/>, <see cref="FaultReason.Corrupt"/> or <see cref="FaultReason.Unsupported"/>.</exception>
    public static KeyObject Parse(ReadOnlySpan<byte> bytes)
    {
        if (bytes.Length != Size)
        {
            throw FaultException.Malformed($"A key object has {bytes.Length} bytes; {Size} were expected.");
        }
        Span<byte> hash = stackalloc byte[Id32.Size];
        SHA256.HashData(bytes[..^Id32.Size], hash);
        if (!hash.SequenceEqual(bytes[^Id32.Size..]))
        {
            throw FaultException.Corrupt("The key object does not match its hash.");
        }
        var reader = new ByteReader(bytes, "key object");
        reader.Expect(Magic, "magic");
        reader.Version(FormatVersion);
        var algorithm = reader.Byte();
        if (algorithm != EciesP256)
        {
            throw new FaultException(FaultReason.Unsupported, $"The key object uses algorithm {algorithm}, which this program does not know. Use a newer release.");
        }
        reader.Reserved(2);
        var (repository, vm, epoch, recipient) = (reader.Id16(), reader.Id16(), reader.Id16(), reader.Id16());
        if (repository.IsEmpty || vm.IsEmpty || epoch.IsEmpty || recipient.IsEmpty)
        {
            throw FaultException.Malformed("The key object lacks a name.");
        }
        var ephemeral = reader.Take(PointBytes).ToArray();
        return ephemeral[0] != 4
            ? throw FaultException.Malformed("The key object does not hold an uncompressed public key.")
            : new KeyObject
            {
                Repository = repository, Vm = vm, Epoch = epoch, Recipient = recipient, Ephemeral = ephemeral, Sealed = reader.Take(SealedBytes).ToArray(),
            };
    }
}
