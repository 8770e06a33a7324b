using VirtBackup.CloudStores.Azure;
using VirtBackup.CloudStores.Requests;
using VirtBackup.CloudStores.S3;
using VirtBackup.Core;
using VirtBackup.ObjectStores;

namespace VirtBackup.CloudStores;

/// <summary>Opens the store of a location, whatever its kind. What it returns is to be disposed.</summary>
public static class StoreOpener
{
    /// <summary>For the one process that may change it.</summary>
    /// <param name="location">Where it is.</param>
    /// <param name="spoolFolder">Where objects on their way to a provider lie; one process's own. Not used by a folder.</param>
    /// <param name="entropy">Names staged objects.</param>
    /// <param name="cancellationToken">Stops the opening.</param>
    /// <exception cref="FaultException">It cannot be opened or reached; the message says why and what to do.</exception>
    public static async ValueTask<OpenStore> OpenOwnedAsync(StoreLocation location, string spoolFolder, IEntropy entropy, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(location);
        return location.IsFolder
            ? new OpenStore(LocalFolderStore.Open(location.Text, new LocalFolderOptions { Entropy = entropy }))
            : new OpenStore(await OpenCloudAsync(location, new CloudStoreOptions { SpoolFolder = spoolFolder, Entropy = entropy, Patience = PatienceFor(location) }, cancellationToken));
    }

    /// <summary>For reading only; an owner may use it meanwhile.</summary>
    /// <exception cref="FaultException">It cannot be opened or reached; the message says why and what to do.</exception>
    public static async ValueTask<OpenStore> OpenForReadingAsync(StoreLocation location, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(location);
        return location.IsFolder
            ? new OpenStore(LocalFolderStore.Open(location.Text, new LocalFolderOptions { IsOwner = false }))
            : new OpenStore(await OpenCloudAsync(location, new CloudStoreOptions { Patience = PatienceFor(location) }, cancellationToken));
    }

    /// <summary>A store at a provider.</summary>
    /// <exception cref="FaultException">It cannot be opened or reached; the message says why and what to do.</exception>
    public static ValueTask<CloudStore> OpenCloudAsync(StoreLocation location, CloudStoreOptions options, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(location);
        ArgumentNullException.ThrowIfNull(options);
        Check.That(!location.IsFolder);
        ICloudRequests requests = location.Kind == StoreKind.S3 ? S3Client.Open(location) : AzureClient.Open(location);
        return CloudStore.OpenAsync(requests, location.Prefix, options, cancellationToken);
    }

    private static RequestPatience PatienceFor(StoreLocation location) => location.Timeout is { } answer ? new RequestPatience { Answer = answer } : new RequestPatience();
}

/// <summary>A store that was opened, until it is disposed.</summary>
public sealed class OpenStore : IDisposable
{
    private readonly IDisposable _owned;

    internal OpenStore(LocalFolderStore store) => (Store, _owned) = (store, store);

    internal OpenStore(CloudStore store) => (Store, _owned) = (store, store);

    public IObjectStore Store { get; }

    public void Dispose() => _owned.Dispose();
}
