using System.Security.Cryptography;
using VirtBackup.Core;
using VirtBackup.Format.Keys;

namespace VirtBackup.Sealing;

/// <summary>A P-256 public key to which secrets are sealed. Always a point of the curve. Immutable.</summary>
public sealed class AgreementPublicKey
{
    /// <summary>Uncompressed point: 4 ‖ X 32 ‖ Y 32 (SEC 1 section 2.3.3).</summary>
    public const int PointBytes = KeyObject.PointBytes;

    private readonly byte[] _point;

    private AgreementPublicKey(byte[] point)
    {
        _point = point;
        SubjectPublicKeyInfo = (byte[])[.. SpkiPrefix, .. point];
        Id = KeyId.Compute(SubjectPublicKeyInfo.Span);
    }

    // SEQUENCE { SEQUENCE { id-ecPublicKey, prime256v1 }, BIT STRING (66 bytes) }: RFC 5480 section 2.
    private static ReadOnlySpan<byte> SpkiPrefix =>
        [0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00];

    /// <summary>Names the key.</summary>
    public Id16 Id { get; }

    public ReadOnlySpan<byte> Point => _point;

    /// <summary>DER (RFC 5480).</summary>
    public ReadOnlyMemory<byte> SubjectPublicKeyInfo { get; }

    /// <exception cref="FaultException"><see cref="FaultReason.Malformed"/>: not an uncompressed point of P-256.</exception>
    public static AgreementPublicKey FromPoint(ReadOnlySpan<byte> point)
    {
        if (point.Length != PointBytes || point[0] != 4)
        {
            throw FaultException.Malformed("A public key is not an uncompressed P-256 point.");
        }
        var key = new AgreementPublicKey(point.ToArray());
        using var agreement = key.Import();
        return key;
    }

    /// <exception cref="FaultException"><see cref="FaultReason.Malformed"/>: not a P-256 key in the usual encoding.</exception>
    public static AgreementPublicKey FromSubjectPublicKeyInfo(ReadOnlySpan<byte> der) =>
        der.Length == SpkiPrefix.Length + PointBytes && der.StartsWith(SpkiPrefix)
            ? FromPoint(der[SpkiPrefix.Length..])
            : throw FaultException.Malformed("A public key is not a P-256 key in SubjectPublicKeyInfo form.");

    /// <summary>The key for the base library, which refuses a point off the curve.</summary>
    internal ECDiffieHellman Import()
    {
        var parameters = new ECParameters
        {
            Curve = ECCurve.NamedCurves.nistP256,
            Q = new ECPoint { X = _point[1..33], Y = _point[33..] },
        };
        try
        {
            return ECDiffieHellman.Create(parameters);
        }
        catch (CryptographicException e)
        {
            throw new FaultException(FaultReason.Malformed, "A public key is not a point of the curve P-256.", e);
        }
    }
}
