using System.Net.Security;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using VirtBackup.Core;

namespace VirtBackup.Identity;

/// <summary>Why a presented certificate was refused.</summary>
public enum ChainRefusal
{
    None = 0,
    /// <summary>The other side showed no certificate.</summary>
    Missing,
    /// <summary>Not issued by this authority.</summary>
    NotOurs,
    NotYetValid,
    Expired,
    /// <summary>A client certificate shown by a server, or the reverse.</summary>
    WrongUse,
    /// <summary>The server's certificate is not for the host that was called.</summary>
    WrongName,
    /// <summary>The certificate does not name one role and name.</summary>
    NoIdentity,
    Revoked,
}

/// <summary>The judgement on a presented certificate.</summary>
/// <param name="Refusal"><see cref="ChainRefusal.None"/>: accepted.</param>
/// <param name="Reason">One sentence for people; empty when accepted.</param>
/// <param name="Peer">Who it is; null when refused, and for servers, which have a host name instead.</param>
public sealed record ChainVerdict(ChainRefusal Refusal, string Reason, PeerIdentity? Peer)
{
    public bool IsAccepted => Refusal == ChainRefusal.None;

    /// <summary>The peer that was accepted.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.Denied"/> with the reason.</exception>
    public PeerIdentity RequirePeer() => Peer ?? throw new FaultException(FaultReason.Denied, IsAccepted ? "A server's certificate names no peer." : Reason);

    internal static ChainVerdict Refuse(ChainRefusal refusal, string reason) => new(refusal, reason, null);
}

/// <summary>
/// Judges certificates against exactly one authority: the machine's trusted roots do not count, nothing is downloaded,
/// and time is <see cref="TimeProvider"/>'s. Safe for concurrent use.
/// </summary>
public sealed class ChainPolicy
{
    private readonly X509Certificate2 _root;
    private readonly TimeProvider _time;
    private readonly IRevocationList? _revoked;

    /// <param name="root">The authority's certificate; stays the caller's and must outlive this object.</param>
    /// <param name="time">The clock that validity is judged by.</param>
    /// <param name="revoked">Certificates that are refused although they are valid; null: none.</param>
    public ChainPolicy(X509Certificate2 root, TimeProvider time, IRevocationList? revoked = null)
    {
        ArgumentNullException.ThrowIfNull(root);
        ArgumentNullException.ThrowIfNull(time);
        _root = root;
        _time = time;
        _revoked = revoked;
    }

    /// <summary>Judges a client's certificate and says whose it is.</summary>
    public ChainVerdict ValidateClient(X509Certificate2? certificate)
    {
        if (certificate is null)
        {
            return ChainVerdict.Refuse(ChainRefusal.Missing, "The client showed no certificate.");
        }
        if (ValidateChain(certificate, CertificateUse.Client) is { } refusal)
        {
            return refusal;
        }
        try
        {
            return new ChainVerdict(ChainRefusal.None, "", PeerIdentity.FromCertificate(certificate));
        }
        catch (FaultException unnamed)
        {
            return ChainVerdict.Refuse(ChainRefusal.NoIdentity, unnamed.Message);
        }
    }

    /// <summary>Judges a server's certificate for the DNS name or IP address that was called.</summary>
    public ChainVerdict ValidateServer(X509Certificate2? certificate, string? hostName)
    {
        if (certificate is null)
        {
            return ChainVerdict.Refuse(ChainRefusal.Missing, "The server showed no certificate.");
        }
        if (ValidateChain(certificate, CertificateUse.Server) is { } refusal)
        {
            return refusal;
        }
        return MatchesHost(certificate, hostName)
            ? new ChainVerdict(ChainRefusal.None, "", null)
            : ChainVerdict.Refuse(ChainRefusal.WrongName,
                $"The server's certificate is not for '{hostName}'. Call it by a name in its certificate, or add this name to the controller's host names.");
    }

    /// <summary>For Kestrel's <c>HttpsConnectionAdapterOptions.ClientCertificateValidation</c>.</summary>
    /// <param name="refused">Told every refusal, for the log; the other side learns only that TLS failed.</param>
    public Func<X509Certificate2, X509Chain?, SslPolicyErrors, bool> ClientCertificateValidation(Action<ChainVerdict>? refused = null) =>
        (certificate, _, _) => Report(ValidateClient(certificate), refused);

    /// <summary>For <see cref="SslServerAuthenticationOptions"/>: judges the client.</summary>
    public RemoteCertificateValidationCallback ClientValidation(Action<ChainVerdict>? refused = null) =>
        (_, certificate, _, _) => WithCertificate2(certificate, leaf => Report(ValidateClient(leaf), refused));

    /// <summary>For <c>SocketsHttpHandler.SslOptions</c>: judges the server.</summary>
    /// <param name="expectedName">The name its certificate must carry; null: the host name of the connection.</param>
    /// <param name="refused">Told every refusal, for the log.</param>
    public RemoteCertificateValidationCallback ServerValidation(string? expectedName = null, Action<ChainVerdict>? refused = null) =>
        (sender, certificate, _, _) => WithCertificate2(certificate,
            leaf => Report(ValidateServer(leaf, expectedName ?? (sender as SslStream)?.TargetHostName), refused));

    internal static bool Report(ChainVerdict verdict, Action<ChainVerdict>? refused)
    {
        if (!verdict.IsAccepted)
        {
            refused?.Invoke(verdict);
        }
        return verdict.IsAccepted;
    }

    internal static bool WithCertificate2(X509Certificate? certificate, Func<X509Certificate2?, bool> judge)
    {
        if (certificate is null or X509Certificate2)
        {
            return judge(certificate as X509Certificate2);
        }
        using var converted = new X509Certificate2(certificate);
        return judge(converted);
    }

    private ChainVerdict? ValidateChain(X509Certificate2 certificate, CertificateUse use)
    {
        var now = _time.GetUtcNow();
        if (!IsIssuedByRoot(certificate, now))
        {
            return ChainVerdict.Refuse(ChainRefusal.NotOurs, "The certificate was not issued by this installation's certificate authority.");
        }
        var from = new DateTimeOffset(certificate.NotBefore.ToUniversalTime());
        var until = new DateTimeOffset(certificate.NotAfter.ToUniversalTime());
        if (now < from)
        {
            return ChainVerdict.Refuse(ChainRefusal.NotYetValid,
                $"The certificate is not valid before {from:u} and the clock here says {now:u}: check the clocks of both hosts.");
        }
        if (now > until)
        {
            return ChainVerdict.Refuse(ChainRefusal.Expired,
                $"The certificate has been expired since {until:u} (the clock here says {now:u}): a new one is needed, or that clock must be corrected.");
        }
        if (!HasUse(certificate, use))
        {
            return ChainVerdict.Refuse(ChainRefusal.WrongUse, use == CertificateUse.Client
                ? "The certificate is not for clients."
                : "The certificate is not for servers: another program answers at the controller's address.");
        }
        return IsRevoked(certificate)
            ? ChainVerdict.Refuse(ChainRefusal.Revoked, "The certificate was revoked: an operator must admit this host or person again.")
            : null;
    }

    /// <summary>Signature, path and critical extensions; validity in time is judged apart, to give a precise reason.</summary>
    private bool IsIssuedByRoot(X509Certificate2 certificate, DateTimeOffset now)
    {
        using var chain = new X509Chain();
        var policy = chain.ChainPolicy;
        policy.TrustMode = X509ChainTrustMode.CustomRootTrust;
        policy.CustomTrustStore.Add(_root);
        policy.RevocationMode = X509RevocationMode.NoCheck;
        policy.DisableCertificateDownloads = true;
        policy.VerificationTimeIgnored = false;
        policy.VerificationTime = now.UtcDateTime;
        policy.VerificationFlags = X509VerificationFlags.IgnoreNotTimeValid;
        try
        {
            return chain.Build(certificate)
                && chain.ChainElements.Count == 2
                && chain.ChainElements[1].Certificate.RawDataMemory.Span.SequenceEqual(_root.RawDataMemory.Span);
        }
        catch (Exception broken) when (broken is CryptographicException or ArgumentException)
        {
            return false;
        }
        finally
        {
            foreach (var element in chain.ChainElements)
            {
                element.Certificate.Dispose();
            }
        }
    }

    private bool IsRevoked(X509Certificate2 certificate)
    {
        if (_revoked is null)
        {
            return false;
        }
        var serial = certificate.SerialNumberBytes.Span;
        return (serial.Length == Id16.Size && _revoked.IsRevoked(Id16.Read(serial))) || _revoked.IsRevoked(PeerIdentity.ReadKeyId(certificate));
    }

    private static bool HasUse(X509Certificate2 certificate, CertificateUse use)
    {
        foreach (var extension in certificate.Extensions)
        {
            if (extension is X509EnhancedKeyUsageExtension uses)
            {
                return uses.EnhancedKeyUsages.Count == 1 && uses.EnhancedKeyUsages[0].Value == use.ToOid();
            }
        }
        return false;
    }

    private static bool MatchesHost(X509Certificate2 certificate, string? hostName)
    {
        if (string.IsNullOrEmpty(hostName))
        {
            return false;
        }
        try
        {
            return certificate.MatchesHostname(hostName, allowWildcards: false, allowCommonName: false);
        }
        catch (Exception unusable) when (unusable is ArgumentException or CryptographicException)
        {
            return false;
        }
    }
}
