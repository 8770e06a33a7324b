using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using VirtBackup.Core;
using VirtBackup.Identity;
using VirtBackup.Protocol.Agent.V1;
using VirtBackup.Protocol.Transport;

namespace VirtBackup.Agent.Host;

/// <summary>Renews the agent's certificate when two thirds of its life have passed; new connections use it at once.</summary>
internal sealed partial class CertificateRenewalLoop(AgentKeyStore keys, IControlTransport control, TimeProvider time, ILogger<CertificateRenewalLoop> logger)
{
    private static readonly TimeSpan IntervalMax = TimeSpan.FromMinutes(10);
    private static readonly TimeSpan IntervalMin = TimeSpan.FromSeconds(1);

    public async Task RunAsync(CancellationToken cancellationToken)
    {
        while (!cancellationToken.IsCancellationRequested)
        {
            var wait = IntervalMax;
            try
            {
                if (keys.IsRenewalDue)
                {
                    await RenewAsync(cancellationToken);
                }
                // In pieces of a few minutes: a clock may be set, and a timer stands still while its host sleeps.
                wait = Clamp(keys.RenewalDueAt!.Value - time.GetUtcNow());
            }
            catch (OperationCanceledException) when (cancellationToken.IsCancellationRequested)
            {
                return;
            }
            catch (FaultException fault)
            {
                LogFailed(logger, fault.Message);
            }
            await Task.Delay(wait, time, cancellationToken).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
    }

    private async Task RenewAsync(CancellationToken cancellationToken)
    {
        var request = new RenewCertificateRequest { CertificateSigningRequest = Google.Protobuf.ByteString.CopyFrom(keys.CreateSigningRequest()) };
        var response = await control.RenewCertificateAsync(request, cancellationToken);
        var chain = new X509Certificate2Collection();
        try
        {
            chain.ImportFromPem(response.CertificateChain.ToStringUtf8());
        }
        catch (CryptographicException broken)
        {
            throw new FaultException(FaultReason.Malformed, "The controller answered with something that is not a certificate.", broken);
        }
        // The controller sends the certificate alone; the root stays the one that the join token pinned.
        keys.StoreCertificate(chain.Count == 1 ? [chain[0], keys.Root!] : [.. chain]);
        LogRenewed(logger, keys.ClientCertificate!.NotAfter.ToUniversalTime());
    }

    private static TimeSpan Clamp(TimeSpan wait) => wait < IntervalMin ? IntervalMin : wait > IntervalMax ? IntervalMax : wait;

    [LoggerMessage(Level = LogLevel.Information, Message = "The agent's certificate was renewed; it is valid until {Until:u}")]
    private static partial void LogRenewed(ILogger logger, DateTime until);

    [LoggerMessage(Level = LogLevel.Warning, Message = "The agent's certificate could not be renewed and will be tried again: {Reason}")]
    private static partial void LogFailed(ILogger logger, string reason);
}
