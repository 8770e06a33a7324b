using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;

namespace VirtBackup.Identity;

/// <summary>The one key type in use: ECDSA on NIST P-256.</summary>
internal static class EcKeys
{
    /// <summary>Length of the private scalar, bytes.</summary>
    public const int ScalarBytes = 32;

    private const string P256Oid = "1.2.840.10045.3.1.7";

    public static ECDsa Create() => ECDsa.Create(ECCurve.NamedCurves.nistP256);

    public static bool IsP256(ECDsa key)
    {
        var curve = key.ExportParameters(includePrivateParameters: false).Curve;
        return curve.IsNamed && (curve.Oid.Value == P256Oid || curve.Oid.FriendlyName == ECCurve.NamedCurves.nistP256.Oid.FriendlyName);
    }

    public static bool HasPrivateKey(ECDsa key)
    {
        try
        {
            CryptographicOperations.ZeroMemory(ExportScalar(key));
            return true;
        }
        catch (CryptographicException)
        {
            return false;
        }
    }

    /// <summary>The private scalar, 32 bytes big-endian; the caller zeroes it.</summary>
    public static byte[] ExportScalar(ECDsa key) => key.ExportParameters(includePrivateParameters: true).D!;

    /// <summary>The key of a scalar whose public point is known; refuses a pair that does not belong together.</summary>
    /// <exception cref="CryptographicException">The scalar is out of range or does not belong to the certificate's public key.</exception>
    public static ECDsa ImportScalar(ReadOnlySpan<byte> scalar, X509Certificate2 certificate)
    {
        using var known = certificate.GetECDsaPublicKey() ?? throw new CryptographicException("The certificate has no elliptic curve key.");
        if (!IsP256(known))
        {
            throw new CryptographicException("The certificate's key is not on P-256.");
        }
        var point = known.ExportParameters(includePrivateParameters: false).Q;
        var secret = scalar.ToArray();
        var key = ECDsa.Create();
        try
        {
            key.ImportParameters(new ECParameters { Curve = ECCurve.NamedCurves.nistP256, Q = point, D = secret });
            if (!Matches(key, certificate))
            {
                throw new CryptographicException("The private key does not belong to the certificate.");
            }
            return key;
        }
        catch
        {
            key.Dispose();
            throw;
        }
        finally
        {
            CryptographicOperations.ZeroMemory(secret);
        }
    }

    /// <summary>Whether a signature by <paramref name="key"/> verifies under the certificate's key: proof, not comparison of claims.</summary>
    public static bool Matches(ECDsa key, X509Certificate2 certificate)
    {
        using var other = certificate.GetECDsaPublicKey();
        if (other is null)
        {
            return false;
        }
        ReadOnlySpan<byte> probe = "virtbackup key pair check"u8;
        return other.VerifyData(probe, key.SignData(probe, HashAlgorithmName.SHA256), HashAlgorithmName.SHA256);
    }
}
