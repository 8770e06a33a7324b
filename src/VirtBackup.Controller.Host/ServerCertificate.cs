using System.Security.Cryptography.X509Certificates;
using VirtBackup.Identity;

namespace VirtBackup.Controller.Host;

/// <summary>The server's certificate: issued at start, and anew whenever two thirds of its life are over. Safe for concurrent use.</summary>
internal sealed class ServerCertificate : IDisposable
{
    private static readonly TimeSpan CheckInterval = TimeSpan.FromHours(1);

    private readonly CertificateAuthority _authority;
    private readonly ControllerSettings _settings;
    private readonly TimeProvider _time;

    // Handshakes may still use the one before: it is disposed when the next one comes.
    private X509Certificate2? _previous;
    private X509Certificate2 _current;

    public ServerCertificate(CertificateAuthority authority, ControllerSettings settings, TimeProvider time)
    {
        _authority = authority;
        _settings = settings;
        _time = time;
        _current = Issue();
    }

    public X509Certificate2 Current => Volatile.Read(ref _current);

    public async Task RunAsync(CancellationToken cancellationToken)
    {
        await Task.Yield();
        while (true)
        {
            await Task.Delay(CheckInterval, _time, cancellationToken);
            if (CertificateRenewal.IsDue(Current, _time))
            {
                _previous?.Dispose();
                _previous = Interlocked.Exchange(ref _current, Issue());
            }
        }
    }

    public void Dispose()
    {
        _previous?.Dispose();
        Current.Dispose();
    }

    private X509Certificate2 Issue() => _authority.IssueServer([.. _settings.DnsNames], [.. _settings.Addresses]);
}
