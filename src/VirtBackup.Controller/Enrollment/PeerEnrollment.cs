using System.Security.Cryptography.X509Certificates;
using Google.Protobuf;
using Microsoft.Extensions.Logging;
using VirtBackup.Catalog.Replication;
using VirtBackup.Core;
using VirtBackup.Identity;
using VirtBackup.Protocol.Replication.V1;

namespace VirtBackup.Controller.Enrollment;

/// <summary>
/// Admits other controllers as peers, renews their certificates and revokes them. Being a peer opens the replication service and
/// nothing else, and what may be read there is set apart. Safe for concurrent use.
/// </summary>
public sealed partial class PeerEnrollment(
    ControllerIdentity identity, CertificateAuthority authority, TokenService tokens, PeerRecords peers, MemoryRevocationList revoked, TimeProvider time,
    ILogger<PeerEnrollment> logger)
{
    /// <summary>Told when a peer's key is no longer good, so that its streams end. Set once, before the first call.</summary>
    public Action<string>? PeerRevoked { get; set; }

    /// <summary>Makes a token for another controller, and makes it known by this name; nothing is allowed to a new one.</summary>
    /// <param name="name">What the peer is called here.</param>
    /// <param name="lifetimeMinutes">0: <see cref="TokenService.DefaultMinutes"/>.</param>
    /// <param name="cancellationToken">Ends the call.</param>
    /// <returns>The token's text, to be shown once, and when it expires.</returns>
    public async ValueTask<(string Text, DateTimeOffset Expires)> CreateTokenAsync(string name, uint lifetimeMinutes, CancellationToken cancellationToken)
    {
        PeerKeyFolders.RequireName(name);
        var made = await tokens.CreateAsync(name, lifetimeMinutes, PeerRole.Peer, cancellationToken);
        await peers.EnsureAsync(name, time.NowMs(), cancellationToken);
        return made;
    }

    /// <summary>Exchanges a join token for a certificate. The token is good for one controller; the key of an earlier one of this name is revoked.</summary>
    public async ValueTask<JoinResponse> JoinAsync(JoinRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        using var token = JoinToken.Parse(request.JoinToken);
        var row = await tokens.RequireAsync(token, PeerRole.Peer, cancellationToken);
        if (row.AgentName is not { } name || (request.PeerName.Length > 0 && request.PeerName != name))
        {
            throw new FaultException(FaultReason.Denied, $"The join token admits '{row.AgentName}' only.");
        }
        using var certificate = authority.IssueClient(request.CertificateSigningRequest.Span, PeerRole.Peer, name);
        var keyId = PeerIdentity.ReadKeyId(certificate);
        if (revoked.IsRevoked(keyId))
        {
            throw new FaultException(FaultReason.Denied, "This key was revoked: join with a new one.");
        }
        if (await peers.AdmitAsync(name, keyId, SerialOf(certificate), ExpiryOf(certificate), row.Id, time.NowMs(), cancellationToken) is { } retired)
        {
            End(name, retired);
        }
        LogJoined(name, keyId);
        return new JoinResponse { CertificateChain = ToChain(certificate), PeerName = name, RepositoryId = identity.ControllerId.ToString() };
    }

    /// <summary>A fresh certificate for the key that the caller's certificate has.</summary>
    public async ValueTask<RenewCertificateResponse> RenewAsync(Caller caller, RenewCertificateRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(caller);
        ArgumentNullException.ThrowIfNull(request);
        using var certificate = authority.IssueClient(request.CertificateSigningRequest.Span, PeerRole.Peer, caller.Name);
        var keyId = PeerIdentity.ReadKeyId(certificate);
        if (keyId != caller.KeyId)
        {
            throw new FaultException(FaultReason.Denied, "A certificate is renewed for the key that it has: for a new key, join again.");
        }
        if (!await peers.RenewAsync(caller.Name, keyId, SerialOf(certificate), ExpiryOf(certificate), cancellationToken))
        {
            throw new FaultException(FaultReason.Denied, $"The peer '{caller.Name}' is not known with this key: join again.");
        }
        LogRenewed(caller.Name, certificate.NotAfter.ToUniversalTime());
        return new RenewCertificateResponse { CertificateChain = ToChain(certificate) };
    }

    /// <summary>The peer that makes a call. Asked at the begin of every conversation: a certificate alone outlives a catalog that was lost.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.Denied"/>: it is not known with this key.</exception>
    public async ValueTask<PeerRow> RequireAsync(Caller caller, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(caller);
        var row = await peers.FindAsync(caller.Name, cancellationToken);
        return row is { RevokedMs: null } && row.TlsKeyId == caller.KeyId && caller.Role == PeerRole.Peer
            ? row
            : throw new FaultException(FaultReason.Denied, $"The peer '{caller.Name}' is not known with this key: join again.");
    }

    /// <summary>Refuses the peer from now on, and ends what it is doing.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.NotFound"/>.</exception>
    public async ValueTask<PeerRow> RevokeAsync(string name, CancellationToken cancellationToken)
    {
        var row = await peers.RevokeAsync(name, time.NowMs(), cancellationToken);
        End(name, row.TlsKeyId);
        LogRevoked(name, row.TlsKeyId);
        return row;
    }

    /// <summary>As <see cref="RevokeAsync"/>, and forgets the peer.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.NotFound"/>.</exception>
    public async ValueTask<PeerRow> RemoveAsync(string name, CancellationToken cancellationToken)
    {
        var row = await peers.RemoveAsync(name, time.NowMs(), cancellationToken);
        End(name, row.TlsKeyId);
        LogRemoved(name);
        return row;
    }

    private void End(string name, Id16 keyId)
    {
        if (!keyId.IsEmpty)
        {
            revoked.Revoke(keyId);
        }
        PeerRevoked?.Invoke(name);
    }

    private static ByteString ToChain(X509Certificate2 certificate) => ByteString.CopyFromUtf8(certificate.ExportCertificatePem() + "\n");

    private static Id16 SerialOf(X509Certificate2 certificate) => Id16.Read(certificate.SerialNumberBytes.Span);

    private static long ExpiryOf(X509Certificate2 certificate) => new DateTimeOffset(certificate.NotAfter.ToUniversalTime()).ToUnixTimeMilliseconds();

    [LoggerMessage(Level = LogLevel.Information, Message = "Another controller joined as peer {Peer} with key {KeyId}.")]
    private partial void LogJoined(string peer, Id16 keyId);

    [LoggerMessage(Level = LogLevel.Information, Message = "The certificate of peer {Peer} was renewed until {Until:u}.")]
    private partial void LogRenewed(string peer, DateTime until);

    [LoggerMessage(Level = LogLevel.Warning, Message = "Peer {Peer} was revoked with key {KeyId}.")]
    private partial void LogRevoked(string peer, Id16 keyId);

    [LoggerMessage(Level = LogLevel.Warning, Message = "Peer {Peer} was removed.")]
    private partial void LogRemoved(string peer);
}
