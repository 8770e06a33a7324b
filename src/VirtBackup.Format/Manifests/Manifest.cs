using System.Security.Cryptography;
using VirtBackup.Core;

namespace VirtBackup.Format.Manifests;

/// <summary>
/// A whole manifest: clear head, sealed body, the agent's signature and a hash that a scrub checks without keys. Parsing
/// proves form and hash only; the signature and the body need keys (VirtBackup.Sealing). Immutable.
/// </summary>
public sealed class Manifest
{
    /// <summary>ECDSA P-256 signature, IEEE P1363.</summary>
    public const int SignatureBytes = 64;

    /// <summary>A sealed body is at least its nonce and tag.</summary>
    public const int SealingBytes = 28;

    private readonly ReadOnlyMemory<byte> _bytes;

    private Manifest(ReadOnlyMemory<byte> bytes, ManifestHead head, int bodyLength, Id32 hash)
    {
        _bytes = bytes;
        Head = head;
        Hash = hash;
        HeadBytes = bytes[..head.Length];
        SealedBody = bytes.Slice(head.Length + sizeof(uint), bodyLength);
        Signature = bytes.Slice(bytes.Length - Id32.Size - SignatureBytes, SignatureBytes);
    }

    private static ReadOnlySpan<byte> SignaturePrefix => "virtbackup/1 manifest"u8;

    public ManifestHead Head { get; }

    /// <summary>The head as written: what is signed, and what the body is bound to.</summary>
    public ReadOnlyMemory<byte> HeadBytes { get; }

    /// <summary>nonce 12 ‖ AES-256-GCM ciphertext ‖ tag 16.</summary>
    public ReadOnlyMemory<byte> SealedBody { get; }

    public ReadOnlyMemory<byte> Signature { get; }

    /// <summary>SHA-256 of everything in front of it: what later manifests name as previous or base.</summary>
    public Id32 Hash { get; }

    /// <summary>The stored object.</summary>
    public ReadOnlyMemory<byte> Bytes => _bytes;

    /// <summary>What the agent signs: the prefix, the head and the sealed body's SHA-256.</summary>
    public static byte[] SignedBytesOf(ReadOnlySpan<byte> headBytes, ReadOnlySpan<byte> sealedBody)
    {
        var message = new byte[SignaturePrefix.Length + headBytes.Length + Id32.Size];
        SignaturePrefix.CopyTo(message);
        headBytes.CopyTo(message.AsSpan(SignaturePrefix.Length));
        SHA256.HashData(sealedBody, message.AsSpan(SignaturePrefix.Length + headBytes.Length));
        return message;
    }

    /// <summary>Puts the parts together.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.InvalidArgument"/>: longer than <see cref="Limits.ManifestBytesMax"/>.</exception>
    public static byte[] Assemble(ReadOnlySpan<byte> headBytes, ReadOnlySpan<byte> sealedBody, ReadOnlySpan<byte> signature)
    {
        Check.That(sealedBody.Length >= SealingBytes && signature.Length == SignatureBytes);
        var length = (long)headBytes.Length + sizeof(uint) + sealedBody.Length + SignatureBytes + Id32.Size;
        if (length > Limits.ManifestBytesMax)
        {
            throw new FaultException(FaultReason.InvalidArgument, $"The recovery point's manifest would have {length} bytes; at most {Limits.ManifestBytesMax} are allowed.");
        }
        var bytes = new byte[length];
        var writer = new ByteWriter(bytes);
        writer.Bytes(headBytes);
        writer.UInt32((uint)sealedBody.Length);
        writer.Bytes(sealedBody);
        writer.Bytes(signature);
        SHA256.HashData(bytes.AsSpan(0, writer.Position), writer.Take(Id32.Size));
        return bytes;
    }

    /// <exception cref="FaultException">
    /// <see cref="FaultReason.Corrupt"/>: the hash differs; <see cref="FaultReason.Malformed"/>: not canonical;
    /// <see cref="FaultReason.Unsupported"/>: another version.
    /// </exception>
    public static Manifest Parse(ReadOnlyMemory<byte> bytes)
    {
        if (bytes.Length is < ManifestHead.FixedSize + sizeof(uint) + SealingBytes + SignatureBytes + Id32.Size or > Limits.ManifestBytesMax)
        {
            throw FaultException.Malformed($"A manifest of {bytes.Length} bytes is out of bounds.");
        }
        Span<byte> hash = stackalloc byte[Id32.Size];
        SHA256.HashData(bytes.Span[..^Id32.Size], hash);
        if (!hash.SequenceEqual(bytes.Span[^Id32.Size..]))
        {
            throw FaultException.Corrupt("The manifest does not match its hash: it was damaged or cut short.");
        }
        var head = ManifestHead.Parse(bytes.Span);
        var reader = new ByteReader(bytes.Span[head.Length..], "manifest");
        var bodyLength = reader.Count(Limits.ManifestBytesMax, "body length");
        if (bodyLength < SealingBytes || bodyLength != reader.Remaining - SignatureBytes - Id32.Size)
        {
            throw FaultException.Malformed("The manifest's body does not have the length that the manifest calls for.");
        }
        return new Manifest(bytes, head, bodyLength, Id32.Read(hash));
    }
}
