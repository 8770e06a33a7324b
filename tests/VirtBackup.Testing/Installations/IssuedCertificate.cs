using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;

namespace VirtBackup.Testing.Installations;

/// <summary>A certificate on disk that the installation's authority issued, and can be made to have issued at another time.</summary>
public sealed class IssuedCertificate(string path, string controllerHome)
{
    public X509Certificate2 Read() => X509CertificateLoader.LoadCertificateFromFile(path);

    /// <summary>Puts a certificate in its place that says the same, signed by the same authority, valid from and until other times.</summary>
    public async Task RedateAsync(DateTimeOffset from, DateTimeOffset until)
    {
        using var present = Read();
        using var root = X509CertificateLoader.LoadCertificateFromFile(Path.Combine(controllerHome, "pki", "ca.crt"));
        using var key = ECDsa.Create();
        key.ImportFromPem(await File.ReadAllTextAsync(Path.Combine(controllerHome, "pki", "ca.key")));
        var request = new CertificateRequest(present.SubjectName, present.PublicKey, HashAlgorithmName.SHA256);
        foreach (var extension in present.Extensions)
        {
            request.CertificateExtensions.Add(extension);
        }
        var serial = RandomNumberGenerator.GetBytes(16);
        serial[0] = (byte)((serial[0] & 0x7f) | 0x40);
        using var redated = request.Create(root.SubjectName, X509SignatureGenerator.CreateForECDsa(key), from, until, serial);
        await File.WriteAllTextAsync(path, redated.ExportCertificatePem() + "\n");
    }
}
