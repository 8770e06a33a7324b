using System.Net.Security;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using VirtBackup.CloudStores.Leases;
using VirtBackup.Core;
using StoreLocation = VirtBackup.Core.StoreLocation;

namespace VirtBackup.CloudStores.Requests;

/// <summary>The HTTP client of one store.</summary>
internal static class CloudHttp
{
    private const int ConnectionsMax = 64;

    /// <param name="location">Its setting <c>ca</c> names a PEM file of the certificate authorities to trust in place of the system's.</param>
    /// <exception cref="FaultException"><see cref="FaultReason.NotFound"/>, <see cref="FaultReason.Malformed"/>: the file.</exception>
    public static (HttpClient Client, RequestMeter Meter) Create(StoreLocation location)
    {
        var handler = new SocketsHttpHandler
        {
            AllowAutoRedirect = false,
            ConnectTimeout = TimeSpan.FromSeconds(15),
            MaxConnectionsPerServer = ConnectionsMax,
            PooledConnectionLifetime = TimeSpan.FromMinutes(10),
            UseCookies = false,
        };
        if (location.Settings.GetValueOrDefault("ca") is { } authorities)
        {
            handler.SslOptions = new SslClientAuthenticationOptions { CertificateChainPolicy = PolicyOf(ReadAuthorities(authorities)) };
        }
        var meter = new RequestMeter((location.Prefix.Length == 0 ? "" : location.Prefix + "/") + StoreLease.Prefix, handler);
        // Whoever asks sets the limit.
        return (new HttpClient(meter) { Timeout = Timeout.InfiniteTimeSpan }, meter);
    }

    private static X509ChainPolicy PolicyOf(X509Certificate2Collection roots)
    {
        var policy = new X509ChainPolicy { TrustMode = X509ChainTrustMode.CustomRootTrust, RevocationMode = X509RevocationMode.NoCheck };
        policy.CustomTrustStore.AddRange(roots);
        return policy;
    }

    private static X509Certificate2Collection ReadAuthorities(string path)
    {
        var roots = new X509Certificate2Collection();
        try
        {
            roots.ImportFromPemFile(path);
        }
        catch (Exception failure) when (failure is IOException or UnauthorizedAccessException or CryptographicException)
        {
            throw new FaultException(FaultReason.NotFound, $"The certificate authorities '{path}' cannot be read ({failure.Message.TrimEnd('.')}). Give a PEM file with ca=.", failure);
        }
        return roots.Count > 0 ? roots : throw FaultException.Malformed($"'{path}' holds no certificate. Give a PEM file with ca=.");
    }
}
