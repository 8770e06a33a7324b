namespace VirtBackup.Identity;

/// <summary>What a certificate may be presented as (extended key usage, RFC 5280 section 4.2.1.12).</summary>
public enum CertificateUse
{
    Server = 1,
    Client = 2,
}

internal static class CertificateUses
{
    public static string ToOid(this CertificateUse use) => use switch
    {
        CertificateUse.Server => "1.3.6.1.5.5.7.3.1",
        CertificateUse.Client => "1.3.6.1.5.5.7.3.2",
        _ => throw new ArgumentOutOfRangeException(nameof(use)),
    };
}
