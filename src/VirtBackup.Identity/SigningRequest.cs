using System.Formats.Asn1;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using VirtBackup.Core;

namespace VirtBackup.Identity;

/// <summary>Certificate signing requests (PKCS #10, RFC 2986), DER.</summary>
public static class SigningRequest
{
    /// <summary>A request for this key; its subject says nothing, the authority decides.</summary>
    public static byte[] Create(ECDsa key)
    {
        ArgumentNullException.ThrowIfNull(key);
        return new CertificateRequest("CN=request", key, HashAlgorithmName.SHA256).CreateSigningRequest();
    }

    /// <summary>The public key of a request whose signature verifies under it.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.Malformed"/>, or <see cref="FaultReason.Denied"/> for a wrong signature.</exception>
    public static PublicKey ReadPublicKey(ReadOnlySpan<byte> request)
    {
        if (request.Length is 0 or > CertificateAuthority.SigningRequestBytesMax)
        {
            throw FaultException.Malformed($"A certificate signing request has 1 to {CertificateAuthority.SigningRequestBytesMax} bytes.");
        }
        var key = Load(request, CertificateRequestLoadOptions.SkipSignatureValidation,
            static broken => new FaultException(FaultReason.Malformed, "This is not a certificate signing request (PKCS #10) for a P-256 key.", broken));
        _ = Load(request, CertificateRequestLoadOptions.Default,
            static broken => new FaultException(FaultReason.Denied, "The certificate signing request is not signed by the key that it names.", broken));
        return key;
    }

    private static PublicKey Load(ReadOnlySpan<byte> request, CertificateRequestLoadOptions options, Func<Exception, FaultException> fault)
    {
        try
        {
            var loaded = CertificateRequest.LoadSigningRequest(request, HashAlgorithmName.SHA256, out var used, options);
            using var key = loaded.PublicKey.GetECDsaPublicKey();
            if (used != request.Length || key is null || !EcKeys.IsP256(key))
            {
                throw new CryptographicException("A request for a P-256 key, and nothing after it, was expected.");
            }
            return loaded.PublicKey;
        }
        catch (Exception broken) when (broken is CryptographicException or AsnContentException or ArgumentException or NotSupportedException)
        {
            throw fault(broken);
        }
    }
}
