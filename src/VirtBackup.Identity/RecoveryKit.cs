using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using VirtBackup.Core;

namespace VirtBackup.Identity;

/// <summary>
/// What must survive when everything else burns: the repository's root secret and the authority's key and certificate. Its
/// text form is made for paper (see <see cref="RecoveryKitText"/>). Holds secrets: dispose it.
/// </summary>
public sealed class RecoveryKit : IDisposable
{
    /// <summary>Length of the root secret, bytes.</summary>
    public const int RootSecretBytes = 32;

    private readonly byte[] _rootSecret;
    private readonly byte[] _authorityScalar;
    private readonly byte[] _certificate;

    private RecoveryKit(Id16 repository, byte[] rootSecret, byte[] authorityScalar, byte[] certificate)
    {
        Repository = repository;
        _rootSecret = rootSecret;
        _authorityScalar = authorityScalar;
        _certificate = certificate;
    }

    public Id16 Repository { get; }

    /// <summary>32 bytes; zero once disposed.</summary>
    public ReadOnlySpan<byte> RootSecret => _rootSecret;

    /// <summary>The authority's private scalar on P-256, 32 bytes big-endian; zero once disposed.</summary>
    public ReadOnlySpan<byte> AuthorityScalar => _authorityScalar;

    /// <summary>The authority's certificate, DER: the same bytes that join tokens and agents pin.</summary>
    public ReadOnlySpan<byte> AuthorityCertificate => _certificate;

    public static RecoveryKit Create(Id16 repository, ReadOnlySpan<byte> rootSecret, CertificateAuthority authority)
    {
        ArgumentNullException.ThrowIfNull(authority);
        if (rootSecret.Length != RootSecretBytes)
        {
            throw new ArgumentException($"A root secret has {RootSecretBytes} bytes.", nameof(rootSecret));
        }
        return new RecoveryKit(repository, rootSecret.ToArray(), authority.ExportScalar(), authority.Certificate.RawData);
    }

    /// <summary>Puts together what was read, and proves that key and certificate belong together.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.Corrupt"/>: they do not.</exception>
    internal static RecoveryKit Assemble(Id16 repository, ReadOnlySpan<byte> rootSecret, ReadOnlySpan<byte> scalar, byte[] certificate)
    {
        try
        {
            using var loaded = X509CertificateLoader.LoadCertificate(certificate);
            using var key = EcKeys.ImportScalar(scalar, loaded);
        }
        catch (CryptographicException broken)
        {
            throw new FaultException(FaultReason.Corrupt, "The recovery kit's private key and certificate do not belong together: it was damaged before it was printed. Use another copy.", broken);
        }
        return new RecoveryKit(repository, rootSecret.ToArray(), scalar.ToArray(), certificate);
    }

    /// <summary>The authority itself, ready to issue.</summary>
    public CertificateAuthority RestoreAuthority(IEntropy entropy, TimeProvider time) =>
        CertificateAuthority.Restore(_certificate, _authorityScalar, entropy, time);

    /// <summary>Writes the text to a file of mode 0600, in one step.</summary>
    public void Save(string path)
    {
        var text = RecoveryKitText.Format(this);
        try
        {
            PrivateFiles.Write(path, text);
        }
        finally
        {
            CryptographicOperations.ZeroMemory(text);
        }
    }

    /// <summary>Reads a kit from a file that only its owner may read.</summary>
    public static RecoveryKit Load(string path)
    {
        var text = PrivateFiles.ReadPrivate(path);
        try
        {
            return RecoveryKitText.Parse(text);
        }
        finally
        {
            CryptographicOperations.ZeroMemory(text);
        }
    }

    public void Dispose()
    {
        CryptographicOperations.ZeroMemory(_rootSecret);
        CryptographicOperations.ZeroMemory(_authorityScalar);
    }
}
