using System.Security.Cryptography.X509Certificates;

namespace VirtBackup.Identity;

/// <summary>
/// Sends every new call over connections that were made with the client's present certificate: a controller asks at each
/// call whether its connection's certificate still holds, and connections outlive certificates. Calls under way when the
/// certificate is renewed go on where they are. Safe for concurrent use, except for disposal.
/// </summary>
public sealed class CertifiedConnections(ClientKeyStore keys, Func<SocketsHttpHandler> open) : HttpMessageHandler
{
    private readonly Lock _lock = new();

    // Connections of the earlier ones end by themselves, once their calls are over and they are idle.
    private readonly List<HttpMessageInvoker> _opened = [];
    private X509Certificate2? _certificate;

    protected override Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken) =>
        Present().SendAsync(request, cancellationToken);

    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            _opened.ForEach(static invoker => invoker.Dispose());
        }
        base.Dispose(disposing);
    }

    private HttpMessageInvoker Present()
    {
        var certificate = keys.ClientCertificate;
        lock (_lock)
        {
            if (_opened.Count == 0 || !ReferenceEquals(certificate, _certificate))
            {
                _certificate = certificate;
                _opened.Add(new HttpMessageInvoker(open()));
            }
            return _opened[^1];
        }
    }
}
