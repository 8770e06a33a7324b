using System.Net.Security;
using System.Security.Cryptography.X509Certificates;
using VirtBackup.Core;

namespace VirtBackup.Identity;

/// <summary>
/// The first connection of a host that has nothing but a join token: it accepts a server only if the root that vouches
/// for it has the hash in the token, and then judges the server by that root like any other. The root comes from the
/// chain or from <see cref="EmbeddedRoot"/>. Safe for concurrent use.
/// </summary>
public sealed class JoinPin(Id32 authorityHash, TimeProvider time) : IDisposable
{
    private X509Certificate2? _root;

    public JoinPin(JoinToken token, TimeProvider time)
        : this(token?.AuthorityHash ?? throw new ArgumentNullException(nameof(token)), time)
    {
    }

    /// <summary>The authority's certificate, once a connection was accepted. Owned by this object.</summary>
    public X509Certificate2? Root => Volatile.Read(ref _root);

    /// <summary>For <c>SocketsHttpHandler.SslOptions</c>.</summary>
    /// <param name="expectedName">The name its certificate must carry; null: the host name of the connection.</param>
    /// <param name="refused">Told every refusal, for the log and the terminal.</param>
    public RemoteCertificateValidationCallback ServerValidation(string? expectedName = null, Action<ChainVerdict>? refused = null) =>
        (sender, certificate, chain, _) => ChainPolicy.WithCertificate2(certificate,
            leaf => ChainPolicy.Report(Validate(leaf, chain, expectedName ?? (sender as SslStream)?.TargetHostName), refused));

    /// <summary>Judges a server's certificate; <paramref name="chain"/> is what TLS received with it.</summary>
    public ChainVerdict Validate(X509Certificate2? certificate, X509Chain? chain, string? hostName)
    {
        if (certificate is null)
        {
            return ChainVerdict.Refuse(ChainRefusal.Missing, "The server showed no certificate.");
        }
        var root = FindRoot(certificate, chain);
        if (root is null)
        {
            return ChainVerdict.Refuse(ChainRefusal.NotOurs,
                "The server does not belong to the installation that made the join token: check the address, or make a new token.");
        }
        var verdict = new ChainPolicy(root, time).ValidateServer(certificate, hostName);
        if (!verdict.IsAccepted || Interlocked.CompareExchange(ref _root, root, null) is not null)
        {
            root.Dispose();
        }
        return verdict;
    }

    public void Dispose() => _root?.Dispose();

    private X509Certificate2? FindRoot(X509Certificate2 certificate, X509Chain? chain)
    {
        foreach (var candidate in Received(chain))
        {
            if (CertificateAuthority.HashOf(candidate) == authorityHash)
            {
                return X509CertificateLoader.LoadCertificate(candidate.RawDataMemory.Span);
            }
        }
        var embedded = EmbeddedRoot.Find(certificate);
        if (embedded is not null && CertificateAuthority.HashOf(embedded) != authorityHash)
        {
            embedded.Dispose();
            return null;
        }
        return embedded;
    }

    private static IEnumerable<X509Certificate2> Received(X509Chain? chain) =>
        chain is null ? [] : chain.ChainElements.Select(static e => e.Certificate).Concat(chain.ChainPolicy.ExtraStore);
}
