using System.Security.Cryptography.X509Certificates;

namespace VirtBackup.Identity;

/// <summary>When to renew: once two thirds of the lifetime have passed.</summary>
public static class CertificateRenewal
{
    public static DateTimeOffset DueAt(X509Certificate2 certificate)
    {
        ArgumentNullException.ThrowIfNull(certificate);
        var from = new DateTimeOffset(certificate.NotBefore.ToUniversalTime());
        var until = new DateTimeOffset(certificate.NotAfter.ToUniversalTime());
        return from + ((until - from) / 3 * 2);
    }

    public static bool IsDue(X509Certificate2 certificate, TimeProvider time)
    {
        ArgumentNullException.ThrowIfNull(time);
        return time.GetUtcNow() >= DueAt(certificate);
    }
}
