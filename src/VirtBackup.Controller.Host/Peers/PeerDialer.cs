using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using Google.Protobuf;
using VirtBackup.Controller.Replication;
using VirtBackup.Core;
using VirtBackup.Identity;
using VirtBackup.Protocol.Grpc;
using VirtBackup.Protocol.Replication.V1;
using VirtBackup.Protocol.Transport;
using PeerCalls = VirtBackup.Protocol.Replication.V1.ReplicationService;

namespace VirtBackup.Controller.Host.Peers;

/// <summary>The way to other controllers over gRPC, with keys and certificates in this controller's home. Safe for concurrent use.</summary>
internal sealed class PeerDialer(PeerKeyFolders folders, Id32 ownAuthority, TimeProvider time) : IPeerDialer, IDisposable
{
    private static readonly TimeSpan CallTimeout = TimeSpan.FromSeconds(30);

    private readonly Gate _joining = new();

    public async ValueTask<PeerAdmission> JoinAsync(string peer, string controller, string joinToken, CancellationToken cancellationToken)
    {
        PeerKeyFolders.RequireName(peer);
        using var token = ReadToken(joinToken);
        var addresses = controller.Length > 0 ? [controller] : token.Details.Endpoints.Select(static endpoint => new Uri(endpoint).Authority).ToList();
        if (addresses.Count == 0)
        {
            throw new FaultException(FaultReason.InvalidArgument, "The join token does not say where the other controller is: give its address as host:port.");
        }
        using var turn = await _joining.CloseAsync(cancellationToken);
        PeerAdmission admission;
        using (var keys = folders.BeginJoin(peer))
        {
            var (response, root, address) = await JoinAsync(addresses, token, keys, joinToken.Trim(), cancellationToken);
            using (root)
            {
                using var certificate = ReadCertificate(response.CertificateChain);
                if (PeerIdentity.FromCertificate(certificate).Role != PeerRole.Peer)
                {
                    throw new FaultException(FaultReason.Denied, "The other controller answered with a certificate that is not a peer's: it runs another version, or is none.");
                }
                if (!Id16.TryParse(response.RepositoryId, out var repository))
                {
                    throw FaultException.Malformed("The other controller does not say which repository it keeps: it runs another version, or is none.");
                }
                keys.StoreCertificate([certificate, root]);
                admission = new PeerAdmission(address, repository);
            }
        }
        folders.CompleteJoin(peer);
        return admission;
    }

    public DateTimeOffset? FindExpiry(string peer) =>
        folders.Find(peer)?.ClientCertificate is { } certificate ? new DateTimeOffset(certificate.NotAfter.ToUniversalTime()) : null;

    public IReplicationTransport Open(string peer, string controller)
    {
        var keys = folders.Find(peer)
            ?? throw new FaultException(FaultReason.FailedPrecondition, $"This controller has no certificate of '{peer}': make a token there and run 'virtbackup peer add {peer}' here.");
        return new GrpcReplicationTransport(PeerChannels.Open(keys, controller), NameOf(controller));
    }

    public void Remove(string peer) => _ = folders.Remove(peer);

    public void Dispose() => _joining.Dispose();

    internal static string NameOf(string controller) => $"The controller at {controller}";

    /// <summary>The issued certificate alone; the root is what the pin proved.</summary>
    internal static X509Certificate2 ReadCertificate(ByteString pem)
    {
        var chain = new X509Certificate2Collection();
        try
        {
            chain.ImportFromPem(pem.ToStringUtf8());
        }
        catch (CryptographicException broken)
        {
            throw new FaultException(FaultReason.Malformed, "The other controller answered with something that is not a certificate.", broken);
        }
        return chain.Count == 1 ? chain[0] : throw FaultException.Malformed($"The other controller answered with {chain.Count} certificates instead of one.");
    }

    private JoinToken ReadToken(string text)
    {
        var token = JoinToken.Parse(text);
        var refusal = token switch
        {
            { Details.Role: not PeerRole.Peer } => "This join token is for an agent, not for a controller: make one at the other site with 'virtbackup peer token'.",
            _ when token.AuthorityHash == ownAuthority => "This join token is of this controller itself: make one at the other site with 'virtbackup peer token'.",
            _ when token.Expires <= time.GetUtcNow() => $"The join token expired at {token.Expires:u}: make a new one at the other site with 'virtbackup peer token'.",
            _ => null,
        };
        if (refusal is null)
        {
            return token;
        }
        token.Dispose();
        throw new FaultException(FaultReason.Denied, refusal);
    }

    /// <summary>Tries the addresses in their order, until one is reached.</summary>
    private async ValueTask<(JoinResponse Response, X509Certificate2 Root, string Address)> JoinAsync(
        List<string> addresses, JoinToken token, PeerKeyStore keys, string tokenText, CancellationToken cancellationToken)
    {
        var request = new JoinRequest { JoinToken = tokenText, CertificateSigningRequest = ByteString.CopyFrom(keys.CreateSigningRequest()) };
        for (var i = 0; ; i++)
        {
            try
            {
                var (response, root) = await CallAsync(addresses[i], token, request, cancellationToken);
                return (response, root, addresses[i]);
            }
            catch (FaultException fault) when (fault.Reason == FaultReason.Unavailable && i < addresses.Count - 1)
            {
                // The next one may be reached.
            }
        }
    }

    private async ValueTask<(JoinResponse Response, X509Certificate2 Root)> CallAsync(
        string address, JoinToken token, JoinRequest request, CancellationToken cancellationToken)
    {
        ChainVerdict? refusal = null;
        using var pin = new JoinPin(token, time);
        using var channel = PeerChannels.OpenPinned(pin, address, verdict => refusal = verdict);
        try
        {
            var client = new PeerCalls.ReplicationServiceClient(channel);
            var deadline = time.GetUtcNow().UtcDateTime + CallTimeout;
            var response = await GrpcCalls.UnaryAsync(client.JoinAsync(request, deadline: deadline, cancellationToken: cancellationToken), NameOf(address), cancellationToken);
            return (response, X509CertificateLoader.LoadCertificate(pin.Root!.RawDataMemory.Span));
        }
        catch (FaultException fault) when (refusal is not null)
        {
            throw new FaultException(FaultReason.Denied, $"The server at {address} is not trusted. {refusal.Reason}", fault);
        }
    }
}
