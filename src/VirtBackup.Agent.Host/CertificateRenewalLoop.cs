using System.Security.Cryptography.X509Certificates;
using VirtBackup.Core;
using VirtBackup.Identity;
using VirtBackup.Protocol.Agent.V1;
using VirtBackup.Protocol.Transport;

namespace VirtBackup.Agent.Host;

/// <summary>Renews the agent's certificate when two thirds of its life have passed; new connections use it at once.</summary>
internal sealed partial class CertificateRenewalLoop(AgentKeyStore keys, IControlTransport control, TimeProvider time, ILogger<CertificateRenewalLoop> logger)
{
    private static readonly TimeSpan Interval = TimeSpan.FromMinutes(10);

    public async Task RunAsync(CancellationToken cancellationToken)
    {
        while (!cancellationToken.IsCancellationRequested)
        {
            try
            {
                if (keys.IsRenewalDue)
                {
                    var request = new RenewCertificateRequest { CertificateSigningRequest = Google.Protobuf.ByteString.CopyFrom(keys.CreateSigningRequest()) };
                    var response = await control.RenewCertificateAsync(request, cancellationToken);
                    var chain = new X509Certificate2Collection();
                    chain.ImportFromPem(response.CertificateChain.ToStringUtf8());
                    keys.StoreCertificate([.. chain]);
                    LogRenewed(logger, keys.ClientCertificate!.NotAfter.ToUniversalTime());
                }
                await Task.Delay(Interval, time, cancellationToken);
            }
            catch (OperationCanceledException) when (cancellationToken.IsCancellationRequested)
            {
                return;
            }
            catch (FaultException fault)
            {
                LogFailed(logger, fault.Message);
                await Task.Delay(Interval, time, CancellationToken.None).WaitAsync(cancellationToken).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            }
        }
    }

    [LoggerMessage(Level = LogLevel.Information, Message = "The agent's certificate was renewed; it is valid until {Until:u}")]
    private static partial void LogRenewed(ILogger logger, DateTime until);

    [LoggerMessage(Level = LogLevel.Warning, Message = "The agent's certificate could not be renewed and will be tried again: {Reason}")]
    private static partial void LogFailed(ILogger logger, string reason);
}
