using System.Security.Cryptography;
using VirtBackup.Core;
using VirtBackup.Format.Keys;

namespace VirtBackup.Sealing;

/// <summary>A P-256 public key to which secrets are sealed. Always a point of the curve. Immutable, safe for concurrent use.</summary>
public sealed class AgreementPublicKey
{
    /// <summary>Uncompressed point: 4 ‖ X 32 ‖ Y 32 (SEC 1 section 2.3.3).</summary>
    public const int PointBytes = KeyObject.PointBytes;

    // The same few keys come again with every manifest and key object, and to check a point costs more than to use it.
    private static readonly KeptKeys<AgreementPublicKey> Known = new();

    private readonly byte[] _point;

    // What the check of the point has made is used from then on. Guarded by itself.
    private readonly ECDiffieHellmanPublicKey _imported;

    private AgreementPublicKey(byte[] point, ECDiffieHellmanPublicKey imported)
    {
        (_point, _imported) = (point, imported);
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
    public static AgreementPublicKey FromPoint(ReadOnlySpan<byte> point) => Known.Find(point, static point =>
    {
        using var checkedKey = Import(point, ECDiffieHellman.Create);
        return new AgreementPublicKey(point.ToArray(), checkedKey.PublicKey);
    });

    /// <exception cref="FaultException"><see cref="FaultReason.Malformed"/>: not a P-256 key in the usual encoding.</exception>
    public static AgreementPublicKey FromSubjectPublicKeyInfo(ReadOnlySpan<byte> der) => FromPoint(PointOf(der));

    /// <summary>The same encoding and checks, for verifying signatures.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.Malformed"/>: not a P-256 key in the usual encoding.</exception>
    internal static ECDsa ImportVerifier(ReadOnlySpan<byte> der) => Import(PointOf(der), ECDsa.Create);

    private static ReadOnlySpan<byte> PointOf(ReadOnlySpan<byte> der) => der.Length == SpkiPrefix.Length + PointBytes && der.StartsWith(SpkiPrefix)
        ? der[SpkiPrefix.Length..]
        : throw FaultException.Malformed("A public key is not a P-256 key in SubjectPublicKeyInfo form.");

    /// <summary>The public half of a pair that was made from a scalar on P-256: its point is one of the curve.</summary>
    internal static AgreementPublicKey OfFresh(ECDiffieHellman pair) => new(PointOf(pair), pair.PublicKey);

    /// <summary>The public half as an uncompressed point, of whatever curve the pair is.</summary>
    internal static byte[] PointOf(ECDiffieHellman pair)
    {
        var q = pair.ExportParameters(includePrivateParameters: false).Q;
        return [4, .. q.X!, .. q.Y!];
    }

    /// <summary>The raw ECDH secret with a private key; the caller wipes it.</summary>
    internal byte[] Agree(ECDiffieHellman own)
    {
        lock (_imported)
        {
            return own.DeriveRawSecretAgreement(_imported);
        }
    }

    /// <summary>The key for the base library, which refuses a point off the curve.</summary>
    private static T Import<T>(ReadOnlySpan<byte> point, Func<ECParameters, T> create)
    {
        if (point.Length != PointBytes || point[0] != 4)
        {
            throw FaultException.Malformed("A public key is not an uncompressed P-256 point.");
        }
        var parameters = new ECParameters
        {
            Curve = ECCurve.NamedCurves.nistP256,
            Q = new ECPoint { X = point[1..33].ToArray(), Y = point[33..].ToArray() },
        };
        try
        {
            return create(parameters);
        }
        catch (CryptographicException e)
        {
            throw new FaultException(FaultReason.Malformed, "A public key is not a point of the curve P-256.", e);
        }
    }
}
