using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;

namespace VirtBackup.Identity;

/// <summary>
/// The root certificate inside a server certificate: a non-critical extension whose value is the root's DER. TLS servers
/// do not send their root, yet a joining agent knows only its hash; from here it takes the certificate, which it
/// believes because the hash matches. Others ignore the extension.
/// </summary>
public static class EmbeddedRoot
{
    /// <summary>An identifier under the UUID arc (ITU-T X.667), which needs no registration.</summary>
    public const string Oid = "2.25.300143723395298234142073023872214525455";

    private const int BytesMax = 4096;

    internal static X509Extension ToExtension(X509Certificate2 root) => new(Oid, root.RawDataMemory.Span, critical: false);

    /// <summary>The embedded certificate, or null when there is none that can be read. Nothing is verified yet.</summary>
    public static X509Certificate2? Find(X509Certificate2 certificate)
    {
        ArgumentNullException.ThrowIfNull(certificate);
        var extension = certificate.Extensions[Oid];
        if (extension is null || extension.RawData.Length > BytesMax)
        {
            return null;
        }
        try
        {
            return X509CertificateLoader.LoadCertificate(extension.RawData);
        }
        catch (CryptographicException)
        {
            return null;
        }
    }
}
