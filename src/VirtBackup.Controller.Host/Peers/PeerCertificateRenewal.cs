using Google.Protobuf;
using VirtBackup.Catalog.Replication;
using VirtBackup.Core;
using VirtBackup.Identity;
using VirtBackup.Protocol.Grpc;
using VirtBackup.Protocol.Replication.V1;

namespace VirtBackup.Controller.Host.Peers;

/// <summary>Renews the certificates with which this controller calls others, when two thirds of their life have passed.</summary>
internal sealed partial class PeerCertificateRenewal(PeerRecords peers, PeerKeyFolders folders, TimeProvider time, ILogger logger)
{
    // Often enough for a peer that is seldom reached, and a clock that is set.
    private static readonly TimeSpan Interval = TimeSpan.FromMinutes(10);
    private static readonly TimeSpan CallTimeout = TimeSpan.FromSeconds(30);

    public async Task RunAsync(CancellationToken cancellationToken)
    {
        await Task.Yield();
        while (true)
        {
            foreach (var peer in await peers.ListAsync(cancellationToken))
            {
                if (peer.Controller.Length > 0)
                {
                    await RenewIfDueAsync(peer, cancellationToken);
                }
            }
            await Task.Delay(Interval, time, cancellationToken);
        }
    }

    private async ValueTask RenewIfDueAsync(PeerRow peer, CancellationToken cancellationToken)
    {
        try
        {
            if (folders.Find(peer.Name) is { IsRenewalDue: true } keys)
            {
                await RenewAsync(peer, keys, cancellationToken);
            }
        }
        catch (FaultException fault)
        {
            // One peer that is away, or whose files are damaged, must not keep the others from being renewed.
            LogFailed(peer.Name, fault.Message);
        }
    }

    private async ValueTask RenewAsync(PeerRow peer, PeerKeyStore keys, CancellationToken cancellationToken)
    {
        using var channel = PeerChannels.Open(keys, peer.Controller);
        var client = new ReplicationService.ReplicationServiceClient(channel);
        var request = new RenewCertificateRequest { CertificateSigningRequest = ByteString.CopyFrom(keys.CreateSigningRequest()) };
        var deadline = time.GetUtcNow().UtcDateTime + CallTimeout;
        var response = await GrpcCalls.UnaryAsync(
            client.RenewCertificateAsync(request, deadline: deadline, cancellationToken: cancellationToken), PeerDialer.NameOf(peer.Controller), cancellationToken);
        using var certificate = PeerDialer.ReadCertificate(response.CertificateChain);
        // The root stays the one that the join token pinned.
        keys.StoreCertificate([certificate, keys.Root!]);
        LogRenewed(peer.Name, certificate.NotAfter.ToUniversalTime());
    }

    [LoggerMessage(Level = LogLevel.Information, Message = "This controller's certificate of peer {Peer} was renewed; it is valid until {Until:u}.")]
    private partial void LogRenewed(string peer, DateTime until);

    [LoggerMessage(Level = LogLevel.Warning, Message = "This controller's certificate of peer {Peer} could not be renewed and will be tried again: {Reason}")]
    private partial void LogFailed(string peer, string reason);
}
