using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using VirtBackup.Core;

namespace VirtBackup.Identity;

/// <summary>Certificates as PEM text and as credentials for TLS.</summary>
internal static class CertificateFiles
{
    public static X509Certificate2 Read(string path) => Parse(PrivateFiles.ReadPublic(path), path);

    /// <summary>The one certificate of a PEM text.</summary>
    public static X509Certificate2 Parse(ReadOnlySpan<byte> pem, string where)
    {
        try
        {
            var text = Encoding.ASCII.GetString(pem);
            var fields = PemEncoding.Find(text);
            if (!text.AsSpan()[fields.Label].SequenceEqual("CERTIFICATE") || PemEncoding.TryFind(text.AsSpan()[fields.Location.End..], out _))
            {
                throw new CryptographicException("One certificate was expected.");
            }
            return X509CertificateLoader.LoadCertificate(Convert.FromBase64String(text[fields.Base64Data]));
        }
        catch (Exception broken) when (broken is CryptographicException or ArgumentException or FormatException)
        {
            throw new FaultException(FaultReason.Malformed, $"'{where}' is not one certificate in PEM.", broken);
        }
    }

    /// <summary>The certificate with its key, usable by the platform's TLS.</summary>
    public static X509Certificate2 WithKey(X509Certificate2 certificate, ECDsa key)
    {
        var paired = certificate.CopyWithPrivateKey(key);
        if (!OperatingSystem.IsWindows())
        {
            return paired;
        }
        // Windows' TLS cannot use a key that lives in this process only: a round trip through PKCS #12 gives it a stored one.
        using (paired)
        {
            var exported = paired.Export(X509ContentType.Pkcs12);
            try
            {
                return X509CertificateLoader.LoadPkcs12(exported, null);
            }
            finally
            {
                CryptographicOperations.ZeroMemory(exported);
            }
        }
    }
}
