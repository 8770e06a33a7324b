using Amazon.S3;
using Amazon.S3.Model;
using VirtBackup.CloudStores;
using VirtBackup.Core;
using VirtBackup.Testing.Lab;

namespace VirtBackup.ObjectStores.Tests.Cloud;

/// <summary>Ceph's object lock: what is retained can be deleted by nobody, and only for longer.</summary>
public sealed class CephRetentionTests(ObjectServers servers) : IAsyncLifetime
{
    private const string Key = "packs/ab/1";
    private static readonly CancellationToken None = CancellationToken.None;
    private readonly LabDirectory _folder = new();
    private readonly List<CloudStore> _opened = [];
    private readonly string _bucket = $"locked-{Id16.Create(SystemEntropy.Instance)}";
    private LabObjectServer? _server;
    private AmazonS3Client? _client;

    private AmazonS3Client Client => _client!;

    public async ValueTask InitializeAsync()
    {
        _server = await servers.GetAsync(s3: true);
        _client = new AmazonS3Client(new AmazonS3Config { ServiceURL = _server.Endpoint, ForcePathStyle = true, AuthenticationRegion = "us-east-1" });
        await Client.PutBucketAsync(new PutBucketRequest { BucketName = _bucket, ObjectLockEnabledForBucket = true }, None);
    }

    public ValueTask DisposeAsync()
    {
        _opened.ForEach(static store => store.Dispose());
        Client.Dispose();
        _folder.Dispose();
        return ValueTask.CompletedTask;
    }

    [Theory]
    [InlineData("governance")]
    [InlineData("compliance")]
    public async Task What_is_retained_stays_whoever_deletes_it_and_is_only_ever_retained_for_longer(string kind)
    {
        var store = Open(_bucket, $"&lock={kind}");
        var retention = store.Retention!;
        await retention.RequireAsync(None);
        await store.PutAsync(Key, new byte[] { 1 }, None);
        Assert.Equal(0, await retention.FindAsync(Key, None));
        var until = DateTimeOffset.UtcNow.AddMinutes(5).ToUnixTimeMilliseconds();
        await retention.RetainAsync(Key, until, None);
        var first = await retention.FindAsync(Key, None);
        Assert.InRange(first, until, until + 999);
        await retention.RetainAsync(Key, until + 60_000, None);
        var longer = await retention.FindAsync(Key, None);
        Assert.InRange(longer, until + 60_000, until + 60_999);
        // What is asked for already holds.
        await retention.RetainAsync(Key, until, None);
        Assert.Equal(longer, await retention.FindAsync(Key, None));
        var version = (await Client.GetObjectMetadataAsync(_bucket, Key, None)).VersionId;
        var refused = await Assert.ThrowsAsync<AmazonS3Exception>(() => Client.DeleteObjectAsync(new DeleteObjectRequest { BucketName = _bucket, Key = Key, VersionId = version }, None));
        Assert.Equal(System.Net.HttpStatusCode.Forbidden, refused.StatusCode);
        // Deleting hides it, and whoever takes the mark away has it again.
        await store.DeleteAsync(Key, None);
        Assert.Null(await store.FindAsync(Key, None));
        var missing = await Assert.ThrowsAsync<FaultException>(async () => await retention.FindAsync(Key, None));
        Assert.Equal(FaultReason.NotFound, missing.Reason);
        var marks = (await Client.ListVersionsAsync(_bucket, None)).Versions.Where(static found => found.IsDeleteMarker == true);
        var mark = Assert.Single(marks);
        await Client.DeleteObjectAsync(new DeleteObjectRequest { BucketName = _bucket, Key = Key, VersionId = mark.VersionId }, None);
        Assert.Equal([1], await store.ReadAllAsync(Key, 1, None));
    }

    [Fact]
    public async Task A_bucket_that_was_made_without_object_lock_says_so()
    {
        var store = Open("virtbackup", "&lock=compliance");
        var refused = await Assert.ThrowsAsync<FaultException>(async () => await store.Retention!.RequireAsync(None));
        Assert.Equal(FaultReason.FailedPrecondition, refused.Reason);
        Assert.Contains("was made without object lock", refused.Message, StringComparison.Ordinal);
        Assert.Contains("lock=", refused.Message, StringComparison.Ordinal);
        // Nobody asked for it.
        Assert.Null(Open("virtbackup", "").Retention);
    }

    [Fact]
    public async Task An_object_that_is_not_there_is_not_retained()
    {
        var store = Open(_bucket, "&lock=governance");
        var missing = await Assert.ThrowsAsync<FaultException>(async () => await store.Retention!.RetainAsync("packs/ab/2", DateTimeOffset.UtcNow.AddMinutes(1).ToUnixTimeMilliseconds(), None));
        Assert.Equal(FaultReason.NotFound, missing.Reason);
    }

    private CloudStore Open(string bucket, string settings)
    {
        var location = StoreLocation.Parse($"s3://{bucket}?endpoint={_server!.Endpoint}{settings}");
        var store = StoreOpener.OpenCloud(location, new CloudStoreOptions { SpoolFolder = _folder.File("spool"), Lock = location.Lock });
        _opened.Add(store);
        return store;
    }
}
