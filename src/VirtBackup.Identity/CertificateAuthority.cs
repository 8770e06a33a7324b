using System.Net;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using VirtBackup.Core;

namespace VirtBackup.Identity;

/// <summary>
/// The installation's own certificate authority: one self-signed P-256 root that issues leaf certificates directly
/// (path length 0). Safe for concurrent use, except for <see cref="Dispose"/>.
/// </summary>
/// <remarks>Certificates are those of RFC 5280; signing requests those of RFC 2986.</remarks>
public sealed class CertificateAuthority : IDisposable
{
    /// <summary>Every certificate is valid from this long ago: clocks of hosts differ.</summary>
    public static readonly TimeSpan Backdating = TimeSpan.FromMinutes(5);

    public static readonly TimeSpan ServerLifetime = TimeSpan.FromDays(90);

    /// <summary>Lifetime for programs, which renew by themselves: agents, peers, controllers.</summary>
    public static readonly TimeSpan AgentLifetime = TimeSpan.FromDays(30);

    public static readonly TimeSpan OperatorLifetime = TimeSpan.FromDays(825);

    /// <summary>Names and addresses in one server certificate.</summary>
    public const int ServerNamesMax = 64;

    /// <summary>Largest signing request, bytes.</summary>
    public const int SigningRequestBytesMax = 8 << 10;

    private const int LifetimeYears = 20;

    private readonly Lock _signing = new();
    private readonly ECDsa _key;
    private readonly IEntropy _entropy;
    private readonly TimeProvider _time;

    private CertificateAuthority(X509Certificate2 certificate, ECDsa key, IEntropy entropy, TimeProvider time)
    {
        Certificate = certificate;
        _key = key;
        _entropy = entropy;
        _time = time;
        CertificateHash = HashOf(certificate);
    }

    /// <summary>The root certificate, without its private key. Owned by this object.</summary>
    public X509Certificate2 Certificate { get; }

    /// <summary>SHA-256 of the root certificate's DER bytes; join tokens pin it.</summary>
    public Id32 CertificateHash { get; }

    public static Id32 HashOf(X509Certificate2 certificate)
    {
        ArgumentNullException.ThrowIfNull(certificate);
        return Id32.Read(SHA256.HashData(certificate.RawDataMemory.Span));
    }

    /// <summary>Makes a new authority, valid for 20 years.</summary>
    public static CertificateAuthority Create(IEntropy entropy, TimeProvider time)
    {
        ArgumentNullException.ThrowIfNull(entropy);
        ArgumentNullException.ThrowIfNull(time);
        var key = EcKeys.Create();
        try
        {
            var serial = CreateSerial(entropy);
            var subject = new X500DistinguishedNameBuilder();
            subject.AddOrganizationName("VirtBackup");
            // Two installations' roots have different names, so that nobody mistakes one for the other.
            subject.AddCommonName($"VirtBackup root {Convert.ToHexStringLower(serial)[..8]}");
            var request = new CertificateRequest(subject.Build(), key, HashAlgorithmName.SHA256);
            request.CertificateExtensions.Add(new X509BasicConstraintsExtension(true, true, 0, true));
            request.CertificateExtensions.Add(new X509KeyUsageExtension(X509KeyUsageFlags.KeyCertSign, true));
            request.CertificateExtensions.Add(new X509SubjectKeyIdentifierExtension(request.PublicKey, false));
            var now = time.GetUtcNow();
            var certificate = request.Create(request.SubjectName, X509SignatureGenerator.CreateForECDsa(key),
                now - Backdating, now.AddYears(LifetimeYears), serial);
            return new CertificateAuthority(certificate, key, entropy, time);
        }
        catch
        {
            key.Dispose();
            throw;
        }
    }

    /// <summary>Reads what <see cref="Save"/> wrote.</summary>
    /// <exception cref="FaultException">A file is missing, damaged, readable by others, or the two do not belong together.</exception>
    public static CertificateAuthority Load(string certificatePath, string keyPath, IEntropy entropy, TimeProvider time)
    {
        ArgumentNullException.ThrowIfNull(entropy);
        ArgumentNullException.ThrowIfNull(time);
        var certificate = CertificateFiles.Read(certificatePath);
        ECDsa? key = null;
        try
        {
            key = PrivateFiles.ReadKey(keyPath);
            RequireRoot(certificate, certificatePath);
            if (!EcKeys.Matches(key, certificate))
            {
                throw FaultException.Corrupt($"The key '{keyPath}' does not belong to the certificate '{certificatePath}'. Restore both from the same recovery kit.");
            }
            return new CertificateAuthority(certificate, key, entropy, time);
        }
        catch
        {
            key?.Dispose();
            certificate.Dispose();
            throw;
        }
    }

    /// <summary>Rebuilds the authority from its certificate's DER bytes and private scalar, as a recovery kit keeps them.</summary>
    /// <exception cref="FaultException">They do not belong together.</exception>
    public static CertificateAuthority Restore(ReadOnlySpan<byte> certificateDer, ReadOnlySpan<byte> scalar, IEntropy entropy, TimeProvider time)
    {
        ArgumentNullException.ThrowIfNull(entropy);
        ArgumentNullException.ThrowIfNull(time);
        X509Certificate2? certificate = null;
        try
        {
            certificate = X509CertificateLoader.LoadCertificate(certificateDer);
            RequireRoot(certificate, "recovery kit");
            return new CertificateAuthority(certificate, EcKeys.ImportScalar(scalar, certificate), entropy, time);
        }
        catch (CryptographicException broken)
        {
            certificate?.Dispose();
            throw new FaultException(FaultReason.Corrupt, "The authority's private key does not belong to its certificate.", broken);
        }
        catch
        {
            certificate?.Dispose();
            throw;
        }
    }

    /// <summary>Writes the certificate (PEM) and the private key (PKCS #8 PEM, mode 0600), each in one step, the key first.</summary>
    public void Save(string certificatePath, string keyPath)
    {
        PrivateFiles.WriteKey(keyPath, _key);
        PrivateFiles.Write(certificatePath, Encoding.ASCII.GetBytes(Certificate.ExportCertificatePem() + "\n"));
    }

    /// <summary>The private scalar, 32 bytes; the caller zeroes it.</summary>
    public byte[] ExportScalar() => EcKeys.ExportScalar(_key);

    /// <summary>
    /// Issues a server certificate with a fresh key, kept in memory only; a controller issues itself a new one at every start and when
    /// <see cref="CertificateRenewal.IsDue"/>. It carries the root certificate as well (see <see cref="EmbeddedRoot"/>).
    /// </summary>
    public X509Certificate2 IssueServer(IReadOnlyCollection<string> dnsNames, IReadOnlyCollection<IPAddress> addresses)
    {
        ArgumentNullException.ThrowIfNull(dnsNames);
        ArgumentNullException.ThrowIfNull(addresses);
        if (dnsNames.Count + addresses.Count is 0 or > ServerNamesMax)
        {
            throw new FaultException(FaultReason.InvalidArgument, $"A server certificate needs 1 to {ServerNamesMax} host names or addresses.");
        }
        var names = new SubjectAlternativeNameBuilder();
        foreach (var name in dnsNames)
        {
            if (name.Length > 253 || Uri.CheckHostName(name) != UriHostNameType.Dns || !Ascii.IsValid(name))
            {
                throw new FaultException(FaultReason.InvalidArgument, $"'{name}' is not a DNS name that a certificate can carry.");
            }
            names.AddDnsName(name);
        }
        foreach (var address in addresses)
        {
            names.AddIpAddress(address);
        }
        using var key = EcKeys.Create();
        var request = new CertificateRequest(Subject("server", "controller"), key, HashAlgorithmName.SHA256);
        request.CertificateExtensions.Add(names.Build());
        request.CertificateExtensions.Add(EmbeddedRoot.ToExtension(Certificate));
        using var certificate = Issue(request, CertificateUse.Server, ServerLifetime);
        return CertificateFiles.WithKey(certificate, key);
    }

    /// <summary>
    /// Issues a client certificate for the public key of a PKCS #10 request (DER). Nothing else in the request counts:
    /// the authority decides role and name. Its signature proves that the requester holds the private key.
    /// </summary>
    /// <exception cref="FaultException">
    /// <see cref="FaultReason.Malformed"/>: not a request for a P-256 key. <see cref="FaultReason.Denied"/>: its signature is wrong.
    /// <see cref="FaultReason.InvalidArgument"/>: the name.
    /// </exception>
    public X509Certificate2 IssueClient(ReadOnlySpan<byte> signingRequest, PeerRole role, string name)
    {
        if (!PeerNames.IsName(name))
        {
            throw new FaultException(FaultReason.InvalidArgument, $"A name has 1 to {PeerNames.NameLengthMax} characters of a-z, 0-9, '.' and '-'.");
        }
        var request = new CertificateRequest(Subject(role.ToText(), name), SigningRequest.ReadPublicKey(signingRequest), HashAlgorithmName.SHA256);
        var names = new SubjectAlternativeNameBuilder();
        names.AddUri(PeerIdentity.ToUri(role, name));
        request.CertificateExtensions.Add(names.Build());
        return Issue(request, CertificateUse.Client, role == PeerRole.Operator ? OperatorLifetime : AgentLifetime);
    }

    public void Dispose()
    {
        _key.Dispose();
        Certificate.Dispose();
    }

    private X509Certificate2 Issue(CertificateRequest request, CertificateUse use, TimeSpan lifetime)
    {
        var now = _time.GetUtcNow();
        var from = Later(now - Backdating, Certificate.NotBefore.ToUniversalTime());
        var until = Earlier(now + lifetime, Certificate.NotAfter.ToUniversalTime());
        if (until <= from)
        {
            throw new FaultException(FaultReason.FailedPrecondition,
                $"The certificate authority cannot issue now: it is valid from {Certificate.NotBefore.ToUniversalTime():u} to {Certificate.NotAfter.ToUniversalTime():u}. Check the clock.");
        }
        request.CertificateExtensions.Add(new X509BasicConstraintsExtension(false, false, 0, true));
        request.CertificateExtensions.Add(new X509KeyUsageExtension(X509KeyUsageFlags.DigitalSignature, true));
        request.CertificateExtensions.Add(new X509EnhancedKeyUsageExtension([new Oid(use.ToOid())], true));
        request.CertificateExtensions.Add(X509AuthorityKeyIdentifierExtension.CreateFromCertificate(Certificate, true, false));
        // The platform does not promise that one key may sign on two threads at once.
        lock (_signing)
        {
            return request.Create(Certificate.SubjectName, X509SignatureGenerator.CreateForECDsa(_key), from, until, CreateSerial(_entropy));
        }
    }

    private static X500DistinguishedName Subject(string unit, string name)
    {
        var subject = new X500DistinguishedNameBuilder();
        subject.AddOrganizationName("VirtBackup");
        subject.AddOrganizationalUnitName(unit);
        subject.AddCommonName(name);
        return subject.Build();
    }

    private static byte[] CreateSerial(IEntropy entropy)
    {
        var serial = new byte[Id16.Size];
        entropy.Fill(serial);
        // Positive, and no leading zero byte: DER would drop it, and serials have 16 bytes always.
        serial[0] = (byte)((serial[0] & 0x7F) | 0x40);
        return serial;
    }

    private static void RequireRoot(X509Certificate2 certificate, string where)
    {
        if (!certificate.Extensions.OfType<X509BasicConstraintsExtension>().Any(static e => e.CertificateAuthority))
        {
            throw FaultException.Corrupt($"'{where}' does not hold a certificate authority's certificate.");
        }
    }

    private static DateTimeOffset Later(DateTimeOffset a, DateTimeOffset b) => a > b ? a : b;

    private static DateTimeOffset Earlier(DateTimeOffset a, DateTimeOffset b) => a < b ? a : b;
}
