using System.Security.Cryptography;
using VirtBackup.Core;

namespace VirtBackup.Sealing;

/// <summary>
/// A P-256 key pair that opens what was sealed to its public half: the restore key, an agent's enrolment key, the one-time
/// key of a grant. Not safe for concurrent use.
/// </summary>
public sealed class AgreementKey : IDisposable
{
    private static readonly byte[] Order = Convert.FromHexString("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551");

    private readonly ECDiffieHellman _key;

    private AgreementKey(ECDiffieHellman key, AgreementPublicKey publicKey) => (_key, Public) = (key, publicKey);

    public AgreementPublicKey Public { get; }

    /// <summary>A fresh key: random scalars are drawn until one lies in [1, n) (FIPS 186-5 appendix A.2.2).</summary>
    public static AgreementKey Create(IEntropy entropy)
    {
        ArgumentNullException.ThrowIfNull(entropy);
        var scalar = GC.AllocateArray<byte>(KeyDerivation.KeyBytes, pinned: true);
        try
        {
            do
            {
                entropy.Fill(scalar);
            }
            while (!scalar.AsSpan().ContainsAnyExcept((byte)0) || scalar.AsSpan().SequenceCompareTo(Order) >= 0);
            var key = ECDiffieHellman.Create(new ECParameters { Curve = ECCurve.NamedCurves.nistP256, D = scalar });
            return new AgreementKey(key, AgreementPublicKey.OfFresh(key));
        }
        finally
        {
            CryptographicOperations.ZeroMemory(scalar);
        }
    }

    /// <exception cref="FaultException"><see cref="FaultReason.Malformed"/>: not a P-256 private key.</exception>
    public static AgreementKey FromPkcs8(ReadOnlySpan<byte> pkcs8)
    {
        var key = ECDiffieHellman.Create();
        try
        {
            key.ImportPkcs8PrivateKey(pkcs8, out var read);
            if (read != pkcs8.Length)
            {
                throw FaultException.Malformed("A private key is not a P-256 key in PKCS #8 form.");
            }
            // A public half that is not a point of P-256 is refused, hence any other curve.
            return new AgreementKey(key, AgreementPublicKey.FromPoint(AgreementPublicKey.PointOf(key)));
        }
        catch (Exception e) when (e is CryptographicException or PlatformNotSupportedException)
        {
            key.Dispose();
            throw new FaultException(FaultReason.Malformed, "A private key is not a P-256 key in PKCS #8 form.", e);
        }
        catch
        {
            key.Dispose();
            throw;
        }
    }

    /// <summary>PKCS #8 (RFC 5208), in clear: the caller wipes it.</summary>
    public byte[] ExportPkcs8() => _key.ExportPkcs8PrivateKey();

    /// <summary>The raw ECDH secret with <paramref name="other"/>; the caller wipes it.</summary>
    internal byte[] Agree(AgreementPublicKey other) => other.Agree(_key);

    public void Dispose() => _key.Dispose();

    public override string ToString() => $"private key {Public.Id}";
}
