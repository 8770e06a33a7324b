using VirtBackup.CloudStores.Azure;
using VirtBackup.CloudStores.Leases;
using VirtBackup.CloudStores.Requests;
using VirtBackup.CloudStores.S3;
using VirtBackup.Core;
using VirtBackup.ObjectStores;

namespace VirtBackup.CloudStores;

/// <summary>Opens the store of a location, whatever its kind. What it returns is to be disposed.</summary>
public static class StoreOpener
{
    /// <summary>
    /// For the one process that may change it: it holds the folder's lock, or the lease of a store at a provider, until what is returned is
    /// disposed. Who may have died is waited for until its lease has ended.
    /// </summary>
    /// <param name="location">Where it is.</param>
    /// <param name="owner">What its owner gives it.</param>
    /// <param name="cancellationToken">Stops the opening.</param>
    /// <exception cref="FaultException">
    /// It cannot be opened or reached; the message says why and what to do. <see cref="FaultReason.RepositoryBusy"/>: another process owns it.
    /// </exception>
    public static async ValueTask<OpenStore> OpenOwnedAsync(StoreLocation location, StoreOwner owner, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(location);
        ArgumentNullException.ThrowIfNull(owner);
        if (location.IsFolder)
        {
            return new OpenStore(LocalFolderStore.Open(location.Text, new LocalFolderOptions { Entropy = owner.Entropy }));
        }
        var options = new CloudStoreOptions
        {
            SpoolFolder = owner.SpoolFolder, SpoolFreeBytesMin = owner.SpoolFreeBytesMin, CopiesFolder = owner.CopiesFolder, CopiesBytesMax = location.CacheBytesMax,
            Lock = location.Lock, Entropy = owner.Entropy, Patience = PatienceFor(location),
        };
        var store = OpenCloud(location, options);
        StoreLease? lease = null;
        try
        {
            var terms = new LeaseTerms
            {
                Holder = LeaseHolder.IdOf(owner.SpoolFolder, owner.Entropy), HolderName = LeaseHolder.Name, Entropy = owner.Entropy, OnWait = owner.OnWait, Time = BootTime.Instance,
            };
            lease = await StoreLease.TakeAsync(store, terms, cancellationToken);
            store.GuardBy(lease.Require);
            await store.DropPartsAsync(cancellationToken);
            return new OpenStore(store, lease);
        }
        catch
        {
            if (lease is not null)
            {
                await lease.DisposeAsync();
            }
            store.Dispose();
            throw;
        }
    }

    /// <summary>For reading only; an owner may use it meanwhile.</summary>
    /// <exception cref="FaultException">It cannot be opened; the message says why and what to do.</exception>
    public static OpenStore OpenForReading(StoreLocation location)
    {
        ArgumentNullException.ThrowIfNull(location);
        return location.IsFolder
            ? new OpenStore(LocalFolderStore.Open(location.Text, new LocalFolderOptions { IsOwner = false }))
            : new OpenStore(OpenCloud(location, new CloudStoreOptions { Patience = PatienceFor(location) }), lease: null);
    }

    /// <summary>A store at a provider, without its lease.</summary>
    /// <exception cref="FaultException">It cannot be opened; the message says why and what to do.</exception>
    public static CloudStore OpenCloud(StoreLocation location, CloudStoreOptions options)
    {
        ArgumentNullException.ThrowIfNull(location);
        ArgumentNullException.ThrowIfNull(options);
        Check.That(!location.IsFolder);
        ICloudRequests requests = location.Kind == StoreKind.S3 ? S3Client.Open(location) : AzureClient.Open(location);
        return CloudStore.Open(requests, location.Prefix, options);
    }

    private static RequestPatience PatienceFor(StoreLocation location) => location.Timeout is { } answer ? new RequestPatience { Answer = answer } : new RequestPatience();
}

/// <summary>A store that was opened, until it is disposed.</summary>
public sealed class OpenStore : IAsyncDisposable
{
    private readonly IDisposable _owned;
    private readonly StoreLease? _lease;

    internal OpenStore(LocalFolderStore store) => (Store, _owned) = (store, store);

    /// <param name="store">Disposed with it.</param>
    /// <param name="lease">Given back with it; null: the store is only read.</param>
    internal OpenStore(CloudStore store, StoreLease? lease) => (Store, _owned, _lease) = (lease is null ? store : new LeasedStore(store, lease), store, lease);

    public IObjectStore Store { get; }

    public async ValueTask DisposeAsync()
    {
        if (_lease is not null)
        {
            await _lease.DisposeAsync();
        }
        _owned.Dispose();
    }
}
