using System.Security.Cryptography;
using VirtBackup.Core;
using VirtBackup.Format;
using VirtBackup.Format.Keys;

namespace VirtBackup.Sealing;

/// <summary>
/// An agent's request for the keys of one recovery point (FORMAT.md, "Grant request"): a one-time public key, signed by the
/// agent's signing key.
/// </summary>
public sealed record GrantRequest
{
    /// <summary>Bytes of a request.</summary>
    public const int Size = SignedBytes + 64;

    private const int SignedBytes = 8 + 4 + (4 * Id16.Size) + AgreementPublicKey.PointBytes;
    private const byte FormatVersion = 1;

    private static ReadOnlySpan<byte> Magic => "VBGREQ\r\n"u8;

    private static ReadOnlySpan<byte> SignaturePrefix => "virtbackup/1 grant request"u8;

    public required Id16 Vm { get; init; }
    public required Id16 Point { get; init; }

    /// <summary>Key id of the agent's signing key.</summary>
    public required Id16 AgentKeyId { get; init; }

    /// <summary>Fresh for every request; the grant repeats it.</summary>
    public required Id16 Nonce { get; init; }

    /// <summary>The one-time key to which the grant is sealed.</summary>
    public required AgreementPublicKey OneTimeKey { get; init; }

    /// <summary>The request's bytes, signed.</summary>
    /// <param name="signer">The agent's P-256 signing key, the one that <see cref="AgentKeyId"/> names.</param>
    public byte[] Sign(ECDsa signer)
    {
        ArgumentNullException.ThrowIfNull(signer);
        Check.That(KeyId.Compute(signer.ExportSubjectPublicKeyInfo()) == AgentKeyId);
        var bytes = new byte[Size];
        var writer = new ByteWriter(bytes);
        writer.Bytes(Magic);
        writer.Byte(FormatVersion);
        writer.Byte(KeyObject.EciesP256);
        writer.UInt16(0);
        writer.Id16(Vm);
        writer.Id16(Point);
        writer.Id16(AgentKeyId);
        writer.Id16(Nonce);
        writer.Bytes(OneTimeKey.Point);
        writer.Bytes(signer.SignData([.. SignaturePrefix, .. bytes.AsSpan(0, SignedBytes)], HashAlgorithmName.SHA256, DSASignatureFormat.IeeeP1363FixedFieldConcatenation));
        return bytes;
    }

    /// <summary>Reads a request and verifies its signature.</summary>
    /// <param name="bytes">From the agent.</param>
    /// <param name="agentKey">SubjectPublicKeyInfo of the agent's signing key, from a trusted roster.</param>
    /// <exception cref="FaultException"><see cref="FaultReason.Malformed"/>, <see cref="FaultReason.Unsupported"/>, or <see cref="FaultReason.Denied"/> for a wrong signature.</exception>
    public static GrantRequest Verify(ReadOnlySpan<byte> bytes, ReadOnlySpan<byte> agentKey)
    {
        var reader = new ByteReader(bytes, "grant request");
        reader.Expect(Magic, "magic");
        reader.Version(FormatVersion);
        if (reader.Byte() != KeyObject.EciesP256)
        {
            throw new FaultException(FaultReason.Unsupported, "The grant request uses an unknown algorithm. Use a newer release.");
        }
        reader.Reserved(2);
        var (vm, point, agent, nonce) = (reader.Id16(), reader.Id16(), reader.Id16(), reader.Id16());
        var oneTimeKey = AgreementPublicKey.FromPoint(reader.Take(AgreementPublicKey.PointBytes));
        var signature = reader.Take(64);
        reader.End();
        var isSigned = SigningKeys.Verify(agentKey, [.. SignaturePrefix, .. bytes[..SignedBytes]], signature);
        if (KeyId.Compute(agentKey) != agent || !isSigned)
        {
            throw new FaultException(FaultReason.Denied, $"The request for the keys of recovery point {point} is not signed by agent key {KeyId.Compute(agentKey)}.");
        }
        return new GrantRequest { Vm = vm, Point = point, AgentKeyId = agent, Nonce = nonce, OneTimeKey = oneTimeKey };
    }
}
