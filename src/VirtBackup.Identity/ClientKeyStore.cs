using System.Net.Security;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using VirtBackup.Core;

namespace VirtBackup.Identity;

/// <summary>
/// A client's key and certificate, in a folder of mode 0700: <c>tls.key</c> and <c>tls.crt</c> (who it is on the wire) and <c>ca.crt</c>
/// (whom it believes). Files are PEM, of mode 0600, and replaced in one step. The key outlives renewals, so that key and
/// certificate never have to change together. Safe for concurrent use, except for <see cref="Dispose()"/>; one process at a
/// time uses a folder.
/// </summary>
public class ClientKeyStore : IDisposable
{
    private const string TlsKeyName = "tls.key";
    private const string TlsCertificateName = "tls.crt";
    private const string RootName = "ca.crt";

    private readonly Lock _lock = new();
    private readonly string _folder;
    private readonly string _remedy;
    private readonly TimeProvider _time;
    private readonly ECDsa _tlsKey;
    private Enrolment? _enrolment;

    /// <summary>Opens the folder; what is missing of folder and key is made.</summary>
    /// <param name="folder">Its last part is made if it is missing.</param>
    /// <param name="remedy">What helps when the certificate is of no use, as the end of a sentence.</param>
    /// <param name="time">The clock that certificates are judged by.</param>
    /// <exception cref="FaultException">
    /// <see cref="FaultReason.Denied"/>: others may read a key or enter the folder (the message has the command that mends it).
    /// <see cref="FaultReason.Corrupt"/> or <see cref="FaultReason.Malformed"/>: a file is damaged.
    /// </exception>
    protected ClientKeyStore(string folder, string remedy, TimeProvider time)
    {
        ArgumentException.ThrowIfNullOrEmpty(folder);
        ArgumentNullException.ThrowIfNull(time);
        _folder = folder;
        _remedy = remedy;
        _time = time;
        PrivateFiles.EnsureFolder(folder);
        if (!File.Exists(Path.Combine(folder, TlsKeyName)) && File.Exists(Path.Combine(folder, TlsCertificateName)))
        {
            // A new key would not fit the certificate: say so rather than break later.
            throw new FaultException(FaultReason.NotFound,
                $"'{Path.Combine(folder, TlsKeyName)}' is missing although its certificate is there: restore it, or remove '{TlsCertificateName}' and {remedy}.");
        }
        _tlsKey = LoadOrCreateKey(Path.Combine(folder, TlsKeyName));
        try
        {
            Reload();
        }
        catch
        {
            _tlsKey.Dispose();
            throw;
        }
    }

    private sealed record Enrolment(X509Certificate2 Certificate, X509Certificate2 Root, PeerIdentity Identity);

    /// <summary>The client certificate with its private key, or null before enrolment. Changes with renewals: ask for every connection.</summary>
    public X509Certificate2? ClientCertificate => Volatile.Read(ref _enrolment)?.Certificate;

    /// <summary>The authority's certificate, or null before enrolment.</summary>
    public X509Certificate2? Root => Volatile.Read(ref _enrolment)?.Root;

    /// <summary>Who the certificate says we are, or null before enrolment.</summary>
    public PeerIdentity? Identity => Volatile.Read(ref _enrolment)?.Identity;

    /// <summary>Whether there is a certificate and two thirds of its lifetime have passed.</summary>
    public bool IsRenewalDue => ClientCertificate is { } certificate && CertificateRenewal.IsDue(certificate, _time);

    /// <summary>When <see cref="IsRenewalDue"/> becomes true, or null before enrolment.</summary>
    public DateTimeOffset? RenewalDueAt => ClientCertificate is { } certificate ? CertificateRenewal.DueAt(certificate) : null;

    /// <summary>Whether there is a certificate in the folder: it is the last that is written at an enrolment.</summary>
    internal static bool HoldsCertificate(string folder) => File.Exists(Path.Combine(folder, TlsCertificateName));

    /// <summary>A PKCS #10 request (DER) for the TLS key, for the first certificate and for every renewal.</summary>
    public byte[] CreateSigningRequest()
    {
        lock (_lock)
        {
            return SigningRequest.Create(_tlsKey);
        }
    }

    /// <summary>
    /// Keeps a certificate that the authority issued, and uses it from the next connection on. <paramref name="chain"/> is the
    /// certificate and then the root; at the first enrolment the caller has checked the root against its join token.
    /// </summary>
    /// <exception cref="FaultException">
    /// <see cref="FaultReason.Denied"/>: it is not for this key, not from this root, or from another root than before.
    /// </exception>
    public void StoreCertificate(IReadOnlyList<X509Certificate2> chain)
    {
        ArgumentNullException.ThrowIfNull(chain);
        if (chain.Count != 2)
        {
            throw FaultException.Malformed("The controller must answer a signing request with two certificates: the issued one and its root.");
        }
        lock (_lock)
        {
            if (_enrolment is { } present && !present.Root.RawDataMemory.Span.SequenceEqual(chain[1].RawDataMemory.Span))
            {
                throw new FaultException(FaultReason.Denied,
                    $"The renewed certificate comes from another certificate authority than the one in '{Path.Combine(_folder, RootName)}': {_remedy}.");
            }
            var verdict = new ChainPolicy(chain[1], _time).ValidateClient(chain[0]);
            if (!verdict.IsAccepted)
            {
                throw new FaultException(FaultReason.Denied, $"The certificate from the controller is unusable. {verdict.Reason}");
            }
            var enrolment = Pair(chain[0], chain[1]);
            // The root first: a certificate on disk always has its root beside it.
            WriteCertificate(RootName, chain[1]);
            WriteCertificate(TlsCertificateName, chain[0]);
            Volatile.Write(ref _enrolment, enrolment);
        }
    }

    /// <summary>Reads the certificate from disk again, after another program renewed it; true when it changed.</summary>
    public bool Reload()
    {
        lock (_lock)
        {
            var path = Path.Combine(_folder, TlsCertificateName);
            if (!File.Exists(path))
            {
                return false;
            }
            using var certificate = CertificateFiles.Read(path);
            if (_enrolment is { } present && present.Certificate.RawDataMemory.Span.SequenceEqual(certificate.RawDataMemory.Span))
            {
                return false;
            }
            using var root = CertificateFiles.Read(Path.Combine(_folder, RootName));
            // A certificate that expired meanwhile still loads: the connection then reports it with its date.
            Volatile.Write(ref _enrolment, Pair(certificate, root));
            return true;
        }
    }

    /// <summary>
    /// For <c>SocketsHttpHandler.SslOptions.LocalCertificateSelectionCallback</c>: the present certificate for each new connection.
    /// </summary>
    public X509Certificate SelectClientCertificate(
        object sender, string targetHost, X509CertificateCollection localCertificates, X509Certificate? remoteCertificate, string[] acceptableIssuers) =>
        ClientCertificate ?? throw NotEnrolled();

    /// <summary>TLS options for calls to the controller: the present certificate, and this root only.</summary>
    public SslClientAuthenticationOptions CreateClientOptions(string? expectedName = null, Action<ChainVerdict>? refused = null)
    {
        var root = Root ?? throw NotEnrolled();
        return new SslClientAuthenticationOptions
        {
            TargetHost = expectedName,
            LocalCertificateSelectionCallback = SelectClientCertificate,
            RemoteCertificateValidationCallback = new ChainPolicy(root, _time).ServerValidation(expectedName, refused),
            CertificateRevocationCheckMode = X509RevocationMode.NoCheck,
            // A resumed session would carry the certificate that it began with, also when that one has been renewed.
            AllowTlsResume = false,
        };
    }

    public void Dispose()
    {
        Dispose(disposing: true);
        GC.SuppressFinalize(this);
    }

    protected virtual void Dispose(bool disposing)
    {
        if (disposing)
        {
            _tlsKey.Dispose();
            _enrolment?.Certificate.Dispose();
            _enrolment?.Root.Dispose();
        }
    }

    /// <summary>The key in this file, which is made if it is missing.</summary>
    protected static ECDsa LoadOrCreateKey(string path)
    {
        if (File.Exists(path))
        {
            return PrivateFiles.ReadKey(path);
        }
        var key = EcKeys.Create();
        try
        {
            PrivateFiles.WriteKey(path, key);
            return key;
        }
        catch
        {
            key.Dispose();
            throw;
        }
    }

    private FaultException NotEnrolled() => new(FaultReason.FailedPrecondition, $"'{_folder}' holds no certificate: {_remedy}.");

    /// <summary>
    /// The replaced certificate is not disposed, because a handshake may be using it; its finalizer frees it.
    /// </summary>
    private Enrolment Pair(X509Certificate2 certificate, X509Certificate2 root)
    {
        if (!EcKeys.Matches(_tlsKey, certificate))
        {
            throw new FaultException(FaultReason.Denied,
                $"The certificate '{Path.Combine(_folder, TlsCertificateName)}' is for another key than '{TlsKeyName}': {_remedy}.");
        }
        var identity = PeerIdentity.FromCertificate(certificate);
        var ownRoot = X509CertificateLoader.LoadCertificate(root.RawDataMemory.Span);
        return new Enrolment(CertificateFiles.WithKey(certificate, _tlsKey), ownRoot, identity);
    }

    private void WriteCertificate(string name, X509Certificate2 certificate) =>
        PrivateFiles.Write(Path.Combine(_folder, name), Encoding.ASCII.GetBytes(certificate.ExportCertificatePem() + "\n"));
}
