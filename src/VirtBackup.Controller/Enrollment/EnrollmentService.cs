using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using Google.Protobuf;
using Microsoft.Extensions.Logging;
using VirtBackup.Catalog;
using VirtBackup.Controller.Control;
using VirtBackup.Core;
using VirtBackup.Format;
using VirtBackup.Format.Keys;
using VirtBackup.Identity;
using VirtBackup.Protocol.Agent.V1;
using VirtBackup.Sealing;

namespace VirtBackup.Controller.Enrollment;

/// <summary>Admits agents, renews their certificates and revokes them. Safe for concurrent use.</summary>
public sealed partial class EnrollmentService(
    CertificateAuthority authority, TokenService tokens, AgentRecords agents, AgentConnections connections, MemoryRevocationList revoked,
    IObjectStore repository, TimeProvider time, ILogger<EnrollmentService> logger)
{
    private const int SigningKeyBytesMax = 1 << 10;
    private const int ProofBytesMax = 256;
    private const int AgentsPerPage = 256;

    private static ReadOnlySpan<byte> ProofPrefix => "virtbackup/1 enroll"u8;

    /// <summary>Told when an agent's key is revoked, so that its sessions end. Set once, before the first call.</summary>
    public Func<string, ValueTask>? AgentRevoked { get; set; }

    /// <summary>Loads what was revoked before, and gives the repository the agents' keys that it lacks: it may be a new one.</summary>
    public async ValueTask LoadAsync(CancellationToken cancellationToken)
    {
        foreach (var id in await agents.ListRevokedAsync(cancellationToken))
        {
            revoked.Revoke(id);
        }
        for (var after = ""; ;)
        {
            var page = await agents.ListAsync(after, AgentsPerPage, cancellationToken);
            foreach (var agent in page.Where(static agent => agent.RevokedMs is null))
            {
                var name = ObjectKeys.Agent(agent.SigningKeyId);
                if (await repository.FindAsync(name, cancellationToken) is null)
                {
                    await repository.PutAsync(name, agent.SigningKey, cancellationToken);
                }
            }
            if (page.Count < AgentsPerPage)
            {
                return;
            }
            after = page[^1].Name;
        }
    }

    /// <summary>What an agent signs with its signing key to prove that it has it (ECDSA P-256, SHA-256, IEEE P1363).</summary>
    public static byte[] ProofMessage(string agentName, ReadOnlySpan<byte> signingRequest) =>
        [.. ProofPrefix, .. Encoding.UTF8.GetBytes(agentName), .. signingRequest];

    /// <summary>Exchanges a join token for a certificate. The token is good for one agent.</summary>
    public async ValueTask<EnrollResponse> EnrollAsync(EnrollRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        using var token = JoinToken.Parse(request.JoinToken);
        var row = await tokens.RequireAsync(token, PeerRole.Agent, cancellationToken);
        var name = request.AgentName.Length > 0 ? request.AgentName : row.AgentName ?? "";
        if (row.AgentName is { } admitted && admitted != name)
        {
            throw new FaultException(FaultReason.Denied, $"The join token admits '{admitted}' only.");
        }
        if (row.AgentName is null && await agents.FindAsync(name, cancellationToken) is not null)
        {
            throw new FaultException(
                FaultReason.AlreadyExists, $"There is an agent called '{name}' already: choose another name, or make a join token for exactly this name to replace it.");
        }
        var signingRequest = request.CertificateSigningRequest.Memory;
        var signingKey = request.SigningPublicKey.ToByteArray();
        RequireProof(signingKey, ProofMessage(request.AgentName, signingRequest.Span), request.SigningKeyProof.Span);
        using var certificate = authority.IssueClient(signingRequest.Span, PeerRole.Agent, name);
        var agent = ToRow(name, certificate, signingKey);
        if (revoked.IsRevoked(agent.TlsKeyId))
        {
            throw new FaultException(FaultReason.Denied, "This key was revoked: enrol with a new one.");
        }
        // First the key, then the agent: a manifest that names a key which the repository lacks could never be verified.
        await repository.PutAsync(ObjectKeys.Agent(agent.SigningKeyId), signingKey, cancellationToken);
        foreach (var retired in await agents.EnrollAsync(agent, row.Id, cancellationToken))
        {
            await EndAsync(name, retired, $"The agent '{name}' was enrolled anew.");
        }
        LogEnrolled(name, agent.TlsKeyId, agent.SigningKeyId);
        return new EnrollResponse { CertificateChain = ToChain(certificate), AgentName = name };
    }

    /// <summary>A fresh certificate for the key that the caller's certificate has.</summary>
    public async ValueTask<RenewCertificateResponse> RenewAsync(Caller caller, RenewCertificateRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(caller);
        ArgumentNullException.ThrowIfNull(request);
        using var certificate = authority.IssueClient(request.CertificateSigningRequest.Span, PeerRole.Agent, caller.Name);
        var keyId = PeerIdentity.ReadKeyId(certificate);
        if (keyId != caller.KeyId)
        {
            throw new FaultException(FaultReason.Denied, "A certificate is renewed for the key that it has: for a new key, enrol again.");
        }
        if (!await agents.RenewAsync(caller.Name, keyId, SerialOf(certificate), ExpiryOf(certificate), cancellationToken))
        {
            throw new FaultException(FaultReason.Denied, $"The agent '{caller.Name}' is not enrolled with this key: enrol it again.");
        }
        LogRenewed(caller.Name, certificate.NotAfter.ToUniversalTime());
        return new RenewCertificateResponse { CertificateChain = ToChain(certificate) };
    }

    /// <summary>Refuses the agent from now on, and ends what it is doing.</summary>
    public async ValueTask<AgentRow> RevokeAsync(string name, CancellationToken cancellationToken)
    {
        var agent = await agents.RevokeAsync(name, time.NowMs(), cancellationToken);
        await EndAsync(name, agent.TlsKeyId, $"The agent '{name}' was revoked.");
        LogRevoked(name, agent.TlsKeyId);
        return agent;
    }

    private async ValueTask EndAsync(string name, Id16 keyId, string reason)
    {
        revoked.Revoke(keyId);
        connections.End(name, new FaultException(FaultReason.Denied, reason));
        if (AgentRevoked is { } ended)
        {
            await ended(name);
        }
    }

    private AgentRow ToRow(string name, X509Certificate2 certificate, byte[] signingKey) => new()
    {
        Name = name,
        TlsKeyId = PeerIdentity.ReadKeyId(certificate),
        SigningKeyId = KeyId.Compute(signingKey),
        SigningKey = signingKey,
        Serial = SerialOf(certificate),
        CertificateExpiresMs = ExpiryOf(certificate),
        EnrolledMs = time.NowMs(),
    };

    private static void RequireProof(byte[] signingKey, byte[] message, ReadOnlySpan<byte> proof)
    {
        if (signingKey.Length > SigningKeyBytesMax || proof.Length > ProofBytesMax)
        {
            throw new FaultException(FaultReason.InvalidArgument, "The signing key or its proof is too long.");
        }
        // Agreement and signing keys share curve and encoding: this refuses any other form, and points off the curve.
        _ = AgreementPublicKey.FromSubjectPublicKeyInfo(signingKey);
        using var key = ECDsa.Create();
        try
        {
            key.ImportSubjectPublicKeyInfo(signingKey, out _);
        }
        catch (CryptographicException broken)
        {
            throw new FaultException(FaultReason.Malformed, "The signing key is not a P-256 public key.", broken);
        }
        if (!key.VerifyData(message, proof, HashAlgorithmName.SHA256, DSASignatureFormat.IeeeP1363FixedFieldConcatenation))
        {
            throw new FaultException(FaultReason.Denied, "The agent did not prove that it holds its signing key.");
        }
    }

    private static ByteString ToChain(X509Certificate2 certificate) => ByteString.CopyFromUtf8(certificate.ExportCertificatePem() + "\n");

    private static Id16 SerialOf(X509Certificate2 certificate) => Id16.Read(certificate.SerialNumberBytes.Span);

    private static long ExpiryOf(X509Certificate2 certificate) => new DateTimeOffset(certificate.NotAfter.ToUniversalTime()).ToUnixTimeMilliseconds();

    [LoggerMessage(Level = LogLevel.Information, Message = "Agent {Agent} enrolled with TLS key {TlsKeyId} and signing key {SigningKeyId}.")]
    private partial void LogEnrolled(string agent, Id16 tlsKeyId, Id16 signingKeyId);

    [LoggerMessage(Level = LogLevel.Information, Message = "The certificate of agent {Agent} was renewed until {Until:u}.")]
    private partial void LogRenewed(string agent, DateTime until);

    [LoggerMessage(Level = LogLevel.Warning, Message = "Agent {Agent} was revoked with key {TlsKeyId}.")]
    private partial void LogRevoked(string agent, Id16 tlsKeyId);
}
