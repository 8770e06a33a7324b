using Amazon.S3;
using Amazon.S3.Model;
using VirtBackup.CloudStores;
using VirtBackup.CloudStores.Requests;
using VirtBackup.Core;
using VirtBackup.Testing.Lab;

namespace VirtBackup.ObjectStores.Tests.Cloud;

public sealed class CephSafetyTests(ObjectServers servers) : CloudSafetyTests(servers, s3: true)
{
    [Fact]
    public async Task Only_packs_that_were_begun_long_ago_lose_their_parts()
    {
        var server = await Servers.GetAsync(s3: true);
        using var client = new AmazonS3Client(new AmazonS3Config { ServiceURL = server.Endpoint, ForcePathStyle = true, AuthenticationRegion = "us-east-1" });
        var prefix = Location.Prefix;
        string[] names = [$"{prefix}/packs/ab/1", $"{prefix}/exports/1", $"{prefix}-other/packs/ab/1", "packs-of-others/1"];
        var ids = new Dictionary<string, string>();
        foreach (var name in names)
        {
            ids.Add(name, (await client.InitiateMultipartUploadAsync(new InitiateMultipartUploadRequest { BucketName = "virtbackup", Key = name }, None)).UploadId);
        }
        await Store.DropPartsAsync(None);
        Assert.Equal(names.Order(), await ListAsync());
        using var later = Open(new LaterTime(TimeSpan.FromDays(2)));
        await later.DropPartsAsync(None);
        Assert.Equal(names[1..].Order(), await ListAsync());
        foreach (var name in names[1..])
        {
            await client.AbortMultipartUploadAsync("virtbackup", name, ids[name], None);
        }

        async Task<IEnumerable<string>> ListAsync() =>
            ((await client.ListMultipartUploadsAsync(new ListMultipartUploadsRequest { BucketName = "virtbackup" }, None)).MultipartUploads ?? [])
            .Where(upload => ids.ContainsValue(upload.UploadId)).Select(static upload => upload.Key).Order();
    }

    /// <summary>The system's time on a later day.</summary>
    private sealed class LaterTime(TimeSpan later) : TimeProvider
    {
        public override DateTimeOffset GetUtcNow() => base.GetUtcNow() + later;
    }
}

public sealed class AzuriteSafetyTests(ObjectServers servers) : CloudSafetyTests(servers, s3: false);

/// <summary>Nothing is taken for absent that may be there, and nothing is changed by who may not change it any more.</summary>
public abstract class CloudSafetyTests(ObjectServers servers, bool s3) : IAsyncLifetime
{
    private const string Key = "packs/ab/1";
    private readonly string _spool = Directory.CreateTempSubdirectory("virtbackup-spool-").FullName;
    private FaultProxy? _proxy;
    private CloudStore? _store;
    private StoreLocation? _location;

    protected static CancellationToken None => CancellationToken.None;

    protected ObjectServers Servers => servers;

    protected StoreLocation Location => _location!;

    internal CloudStore Store => _store!;

    private FaultProxy Proxy => _proxy!;

    public async ValueTask InitializeAsync()
    {
        var server = await servers.GetAsync(s3);
        _proxy = new FaultProxy(server.Endpoint);
        _location = StoreLocation.Parse(server.LocationOf($"safety/{Id16.Create(SystemEntropy.Instance)}", _proxy.Endpoint));
        _store = Open(TimeProvider.System);
    }

    public async ValueTask DisposeAsync()
    {
        Store.Dispose();
        await Proxy.DisposeAsync();
        Directory.Delete(_spool, recursive: true);
        GC.SuppressFinalize(this);
    }

    [Fact]
    public async Task A_404_that_is_not_the_stores_own_makes_nothing_absent()
    {
        await Store.PutAsync(Key, new byte[] { 1, 2, 3 }, None);
        await Store.PutAsync("locks/1", ReadOnlyMemory<byte>.Empty, None);
        var left = 1;
        Proxy.Choose = (_, _) => Interlocked.Decrement(ref left) >= 0 ? HttpFault.ForeignNotFound : HttpFault.None;
        Assert.Equal(3, (await Store.FindAsync(Key, None))!.Value.Length);
        Assert.Equal(1, Proxy.Faults);
        Assert.Equal(0, (await Store.FindAsync("locks/1", None))!.Value.Length);
        Assert.Null(await Store.FindAsync("packs/ab/2", None));
        Proxy.Choose = static (_, _) => HttpFault.ForeignNotFound;
        await RequireUnavailableAsync(async () => await Store.FindAsync(Key, None));
        await RequireUnavailableAsync(async () => await Store.ReadAsync(Key, 0, new byte[3], None));
        await RequireUnavailableAsync(async () => await Store.ReadAllAsync(Key, 3, None));
        await RequireUnavailableAsync(async () => await Store.DeleteAsync(Key, None));
        await RequireUnavailableAsync(async () => await Store.PutAsync("packs/ab/3", new byte[1], None));
        await RequireUnavailableAsync(async () => await Store.ListAsync("packs/", None).GetAsyncEnumerator(None).MoveNextAsync());
    }

    [Fact]
    public async Task Who_loses_the_store_between_two_tries_does_not_try_again()
    {
        await Store.PutAsync(Key, new byte[] { 1 }, None);
        var isOwner = true;
        Store.GuardBy(() =>
        {
            if (!isOwner)
            {
                throw new FaultException(FaultReason.Fenced, "somebody else has it");
            }
        });
        var changes = 0;
        Proxy.Choose = (method, _) =>
        {
            if (method is "PUT" or "DELETE" or "POST")
            {
                Interlocked.Increment(ref changes);
                isOwner = false;
                return HttpFault.ServerError;
            }
            return HttpFault.None;
        };
        foreach (var change in new Func<Task>[]
        {
            async () => await Store.PutAsync("packs/ab/2", new byte[] { 2 }, None), async () => await Store.DeleteAsync(Key, None),
            async () => await Store.PutAsync("packs/ab/3", new byte[70 << 20], None),
        })
        {
            (isOwner, changes) = (true, 0);
            var fenced = await Assert.ThrowsAsync<FaultException>(change);
            Assert.Equal(FaultReason.Fenced, fenced.Reason);
            Assert.Equal(1, changes);
        }
        // The lease itself has to be taken and given back.
        Proxy.Choose = static (_, _) => HttpFault.None;
        Assert.True(await Store.PutAsync("lease/1", new byte[1], None));
        Assert.Equal(1, (await Store.FindAsync(Key, None))!.Value.Length);
    }

    [Fact]
    public async Task Whatever_keeps_the_lease_is_counted_apart_too()
    {
        await Store.PutAsync(Key, new byte[1], None);
        Assert.Equal(0, Store.Traffic!.Value.Lease);
        await Store.PutAsync("lease/1", new byte[1], None);
        await foreach (var _ in Store.ListAsync("lease/", None))
        {
        }
        await Store.DeleteAsync("lease/1", None);
        Assert.Equal(3, Store.Traffic!.Value.Lease);
        Assert.Equal(4, Store.Traffic!.Value.Requests);
    }

    [Fact]
    public async Task A_spool_wants_as_much_space_as_its_owner_says()
    {
        var options = new CloudStoreOptions { SpoolFolder = _spool, SpoolFreeBytesMin = long.MaxValue };
        var full = Assert.Throws<FaultException>(() => StoreOpener.OpenCloud(Location, options));
        Assert.Equal(FaultReason.DeviceFull, full.Reason);
        using var store = StoreOpener.OpenCloud(Location, options with { SpoolFreeBytesMin = 1 });
        Assert.True(await store.PutAsync("packs/ab/2", new byte[1], None));
    }

    internal CloudStore Open(TimeProvider time) => StoreOpener.OpenCloud(
        Location,
        new CloudStoreOptions
        {
            SpoolFolder = _spool, Time = time, Patience = new RequestPatience { FirstPause = TimeSpan.FromMilliseconds(5), PauseMax = TimeSpan.FromMilliseconds(50), AttemptsMax = 4 },
        });

    private static async Task RequireUnavailableAsync(Func<Task> action)
    {
        var fault = await Assert.ThrowsAsync<FaultException>(action);
        Assert.Equal(FaultReason.Unavailable, fault.Reason);
    }
}
