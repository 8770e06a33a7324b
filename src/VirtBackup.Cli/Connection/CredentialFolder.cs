using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using VirtBackup.Cli.Setup;
using VirtBackup.Identity;

namespace VirtBackup.Cli.Connection;

/// <summary>
/// An operator's credentials: <c>ca.crt</c>, <c>operator.crt</c>, <c>operator.key</c> (0600) and <c>controller</c>
/// (<c>host:port</c>), in a folder of mode 0700.
/// </summary>
internal sealed class CredentialFolder(string path)
{
    public string Path { get; } = System.IO.Path.GetFullPath(path);

    public string ControllerPath => System.IO.Path.Combine(Path, "controller");

    private string RootPath => System.IO.Path.Combine(Path, "ca.crt");

    private string CertificatePath => System.IO.Path.Combine(Path, "operator.crt");

    private string KeyPath => System.IO.Path.Combine(Path, "operator.key");

    public bool Exists => File.Exists(CertificatePath) || File.Exists(KeyPath);

    public static CredentialFolder Locate(string? asked, CliContext context)
    {
        if (asked is { Length: > 0 } || (asked = context.Variables("VIRTBACKUP_CREDENTIALS")) is { Length: > 0 })
        {
            return new CredentialFolder(asked);
        }
        return new CredentialFolder(System.IO.Path.Combine(context.HomeFolder, ".config", "virtbackup"));
    }

    /// <summary>The certificate of the operator with its key; the caller disposes it.</summary>
    public X509Certificate2 ReadCertificate()
    {
        RequirePresent(CertificatePath);
        OwnerFiles.RequirePrivate(KeyPath);
        try
        {
            var certificate = X509Certificate2.CreateFromPemFile(CertificatePath, KeyPath);
            if (!OperatingSystem.IsWindows())
            {
                return certificate;
            }
            // Windows' TLS cannot use a key that lives in this process only.
            using (certificate)
            {
                return X509CertificateLoader.LoadPkcs12(certificate.Export(X509ContentType.Pkcs12), null);
            }
        }
        catch (Exception broken) when (broken is CryptographicException or ArgumentException)
        {
            throw new CommandFault(ExitCode.Failed, $"'{CertificatePath}' and '{KeyPath}' are not a certificate and its key in PEM.", Remedy, broken);
        }
    }

    /// <summary>The certificate of the installation's authority; the caller disposes it.</summary>
    public X509Certificate2 ReadRoot()
    {
        RequirePresent(RootPath);
        try
        {
            return X509CertificateLoader.LoadCertificateFromFile(RootPath);
        }
        catch (CryptographicException broken)
        {
            throw new CommandFault(ExitCode.Failed, $"'{RootPath}' is not a certificate in PEM.", Remedy, broken);
        }
    }

    /// <summary>Where the controller is: host and port.</summary>
    public string ReadController()
    {
        RequirePresent(ControllerPath);
        var address = File.ReadAllText(ControllerPath).Trim();
        return ControllerAddress.IsAddress(address)
            ? address
            : throw new CommandFault(ExitCode.Failed, $"'{ControllerPath}' must hold the controller's address as host:port.", Remedy);
    }

    /// <summary>Makes keys and a certificate for an operator, and writes all four files; those written are told to <paramref name="undo"/>.</summary>
    public void Write(CertificateAuthority authority, string name, string controller, Undo undo)
    {
        undo.CreateFolder(Path);
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        using var certificate = authority.IssueClient(SigningRequest.Create(key), PeerRole.Operator, name);
        undo.WriteFile(RootPath, Encoding.ASCII.GetBytes(authority.Certificate.ExportCertificatePem() + "\n"));
        undo.WriteFile(CertificatePath, Encoding.ASCII.GetBytes(certificate.ExportCertificatePem() + "\n"));
        undo.WriteFile(KeyPath, Encoding.ASCII.GetBytes(key.ExportPkcs8PrivateKeyPem() + "\n"));
        undo.WriteFile(ControllerPath, Encoding.UTF8.GetBytes(controller + "\n"));
    }

    private string Remedy => $"copy the folder '{Path}' again from where 'virtbackup controller init' wrote it";

    private void RequirePresent(string file)
    {
        if (!File.Exists(file))
        {
            throw new CommandFault(
                ExitCode.Unreachable, $"There are no operator credentials in '{Path}': '{System.IO.Path.GetFileName(file)}' is missing.",
                "give the folder that 'virtbackup controller init' wrote: --credentials DIR or VIRTBACKUP_CREDENTIALS=DIR");
        }
    }
}
