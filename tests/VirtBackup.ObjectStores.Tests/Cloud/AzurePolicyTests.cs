using VirtBackup.CloudStores;
using VirtBackup.Core;
using VirtBackup.Testing.Lab;

namespace VirtBackup.ObjectStores.Tests.Cloud;

/// <summary>Azure's immutability policies, against a stand-in in front of Azurite: not against Azure.</summary>
public sealed class AzurePolicyTests(ObjectServers servers) : IAsyncLifetime
{
    private const string Key = "packs/ab/1";
    private static readonly CancellationToken None = CancellationToken.None;
    private readonly LabDirectory _folder = new();
    private readonly AzurePolicyStandIn _policies = new();
    private readonly List<CloudStore> _opened = [];
    private FaultProxy? _proxy;
    private LabObjectServer? _server;

    public async ValueTask InitializeAsync()
    {
        _server = await servers.GetAsync(s3: false);
        _proxy = new FaultProxy(_server.Endpoint);
        _policies.ServeIn(_proxy);
    }

    public async ValueTask DisposeAsync()
    {
        _opened.ForEach(static store => store.Dispose());
        await _proxy!.DisposeAsync();
        _folder.Dispose();
    }

    [Theory]
    [InlineData("governance")]
    [InlineData("compliance")]
    public async Task What_is_retained_stays_and_is_only_ever_retained_for_longer(string kind)
    {
        var store = Open(kind);
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
        await retention.RetainAsync(Key, until, None);
        Assert.Equal(longer, await retention.FindAsync(Key, None));
        Assert.Equal(2, _policies.Set);
        var held = await Assert.ThrowsAsync<FaultException>(async () => await store.DeleteAsync(Key, None));
        Assert.Equal(FaultReason.RetentionLocked, held.Reason);
        Assert.False(await store.PutAsync(Key, new byte[] { 2 }, None));
        Assert.Equal([1], await store.ReadAllAsync(Key, 1, None));
        var missing = await Assert.ThrowsAsync<FaultException>(async () => await retention.RetainAsync("packs/ab/2", until, None));
        Assert.Equal(FaultReason.NotFound, missing.Reason);
    }

    [Fact]
    public async Task A_container_that_was_made_without_it_says_so()
    {
        _policies.IsEnabled = false;
        var refused = await Assert.ThrowsAsync<FaultException>(async () => await Open("compliance").Retention!.RequireAsync(None));
        Assert.Equal(FaultReason.FailedPrecondition, refused.Reason);
        Assert.Contains("was made without version-level immutability", refused.Message, StringComparison.Ordinal);
    }

    private CloudStore Open(string kind)
    {
        var location = StoreLocation.Parse(_server!.LocationOf($"policies/{Id16.Create(SystemEntropy.Instance)}", _proxy!.Endpoint) + $"&lock={kind}");
        var store = StoreOpener.OpenCloud(location, new CloudStoreOptions { SpoolFolder = _folder.File("spool"), Lock = location.Lock });
        _opened.Add(store);
        return store;
    }
}
