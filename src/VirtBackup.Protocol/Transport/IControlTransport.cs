using VirtBackup.Protocol.Agent.V1;

namespace VirtBackup.Protocol.Transport;

/// <summary>The control plane as an agent sees it. Failures arrive as <see cref="Core.FaultException"/>.</summary>
public interface IControlTransport
{
    IDuplex<ConnectRequest, ConnectResponse> Connect(CancellationToken cancellationToken);

    IAsyncEnumerable<ReadTaskOptionsResponse> ReadTaskOptionsAsync(ReadTaskOptionsRequest request, CancellationToken cancellationToken);

    ValueTask<RenewCertificateResponse> RenewCertificateAsync(RenewCertificateRequest request, CancellationToken cancellationToken);
}
