using System.Security.Cryptography;
using VirtBackup.CloudStores;
using VirtBackup.CloudStores.Requests;
using VirtBackup.Core;
using VirtBackup.Testing.Lab;

namespace VirtBackup.ObjectStores.Tests.Cloud;

public sealed class CephCopiesTests(ObjectServers servers) : CloudCopiesTests(servers, s3: true);

public sealed class AzuriteCopiesTests(ObjectServers servers) : CloudCopiesTests(servers, s3: false);

/// <summary>What is read through local copies is what was stored, with as few requests as can be, whatever becomes of the copies.</summary>
public abstract class CloudCopiesTests(ObjectServers servers, bool s3) : IAsyncLifetime
{
    private const string Key = "packs/ab/1";
    private static readonly CancellationToken None = CancellationToken.None;
    private readonly LabDirectory _folder = new();
    private readonly byte[] _content = RandomNumberGenerator.GetBytes(300_001);
    private readonly List<CloudStore> _opened = [];
    private FaultProxy? _proxy;
    private StoreLocation? _location;

    private FaultProxy Proxy => _proxy!;

    private string CopiesPath => _folder.File("copies");

    public async ValueTask InitializeAsync()
    {
        var server = await servers.GetAsync(s3);
        _proxy = new FaultProxy(server.Endpoint);
        _location = StoreLocation.Parse(server.LocationOf($"copies/{Id16.Create(SystemEntropy.Instance)}", _proxy.Endpoint));
    }

    public async ValueTask DisposeAsync()
    {
        _opened.ForEach(static store => store.Dispose());
        await Proxy.DisposeAsync();
        _folder.Dispose();
        GC.SuppressFinalize(this);
    }

    [Fact]
    public async Task What_was_stored_this_way_is_read_without_asking_also_after_a_restart()
    {
        var store = Open();
        Assert.True(await store.Near.PutAsync(Key, _content, None));
        Assert.Equal(0, await RequestsForAsync(store, () => RequireRangesAsync(store.Near)));
        var next = Open();
        Assert.Equal(0, await RequestsForAsync(next, () => RequireRangesAsync(next.Near)));
        // The store itself is still asked: whoever proves it must not be told what lies here.
        Assert.True(await RequestsForAsync(next, () => RequireRangesAsync(next)) > 0);
        Assert.False(await next.Near.PutAsync(Key, new byte[1], None));
        await RequireRangesAsync(next.Near);
    }

    [Fact]
    public async Task What_is_not_here_yet_is_fetched_once_whoever_asks()
    {
        await Open().PutAsync(Key, _content, None);
        var store = Open();
        var requests = await RequestsForAsync(store, () => Task.WhenAll(Enumerable.Range(0, 6).Select(_ => RequireRangesAsync(store.Near))));
        Assert.Equal(1, requests);
        await Assert.ThrowsAsync<FaultException>(async () => await store.Near.ReadAsync("packs/ab/2", 0, new byte[1], None));
    }

    [Theory]
    [InlineData(HttpFault.ResetAnswer)]
    [InlineData(HttpFault.ShortAnswer)]
    [InlineData(HttpFault.FlipAnswer)]
    [InlineData(HttpFault.ServerError)]
    public async Task Fetching_survives_faults(HttpFault fault)
    {
        await Open().PutAsync(Key, _content, None);
        var left = 2;
        Proxy.Choose = (method, _) => method == "GET" && Interlocked.Decrement(ref left) >= 0 ? fault : HttpFault.None;
        var store = Open();
        await RequireRangesAsync(store.Near);
        Assert.Equal(2, Proxy.Faults);
        Assert.Equal(0, await RequestsForAsync(store, () => RequireRangesAsync(store.Near)));
    }

    [Fact]
    public async Task A_copy_that_was_damaged_or_cut_off_is_fetched_again()
    {
        var store = Open();
        await store.Near.PutAsync(Key, _content, None);
        var path = Assert.Single(Directory.GetFiles(CopiesPath));
        var whole = await File.ReadAllBytesAsync(path, None);
        for (var at = 0; at < whole.Length; at += 29_989)
        {
            var damaged = (byte[])whole.Clone();
            damaged[at] ^= 1;
            await File.WriteAllBytesAsync(path, damaged, None);
            Assert.Equal(1, await RequestsForAsync(store, () => RequireRangesAsync(store.Near)));
            Assert.Equal(whole, await File.ReadAllBytesAsync(path, None));
        }
        await File.WriteAllBytesAsync(path, whole[..200_000], None);
        Assert.Equal(1, await RequestsForAsync(store, () => RequireRangesAsync(store.Near)));
        File.Delete(path);
        Assert.Equal(1, await RequestsForAsync(store, () => RequireRangesAsync(store.Near)));
    }

    [Fact]
    public async Task A_copy_goes_with_its_object()
    {
        var store = Open();
        await store.Near.PutAsync(Key, _content, None);
        await store.DeleteAsync(Key, None);
        var gone = await Assert.ThrowsAsync<FaultException>(async () => await store.Near.ReadAsync(Key, 0, new byte[1], None));
        Assert.Equal(FaultReason.NotFound, gone.Reason);
        Assert.True(await store.Near.PutAsync(Key, new byte[] { 7 }, None));
        Assert.Equal([7], await store.Near.ReadAllAsync(Key, 1, None));
    }

    [Fact]
    public async Task Copies_take_no_more_room_than_they_may_and_the_one_used_last_stays()
    {
        var store = Open(bytesMax: 1_000_000);
        for (var i = 0; i < 5; i++)
        {
            await store.Near.PutAsync($"packs/{i}", _content, None);
            Assert.Equal(1, await store.Near.ReadAsync("packs/0", 5, new byte[1], None));
            Assert.InRange(Directory.GetFiles(CopiesPath).Sum(static file => new FileInfo(file).Length), 1, 1_000_000);
        }
        Assert.Equal(0, await RequestsForAsync(store, async () => await store.Near.ReadAsync("packs/0", 0, new byte[1], None)));
        Assert.Equal(1, await RequestsForAsync(store, async () => await store.Near.ReadAsync("packs/1", 0, new byte[1], None)));
        // What is longer than all of it is not kept, and read all the same.
        await store.Near.PutAsync("packs/long", new byte[1_200_000], None);
        Assert.Equal(1_200_000, (await store.Near.ReadAllAsync("packs/long", 1_200_000, None)).Length);
        Assert.Empty(Directory.GetFiles(_folder.File("spool"), "*.spool"));
    }

    [Fact]
    public async Task Where_no_copies_can_be_kept_everything_is_read_all_the_same()
    {
        await File.WriteAllTextAsync(CopiesPath, "in the way", None);
        var store = Open();
        await store.Near.PutAsync(Key, _content, None);
        await RequireRangesAsync(store.Near);
    }

    [Fact]
    public async Task Where_the_device_has_no_space_for_a_copy_only_what_is_asked_for_is_read()
    {
        await Open().PutAsync(Key, _content, None);
        Directory.Delete(CopiesPath, recursive: true);
        Directory.CreateDirectory(CopiesPath);
        await using var small = await SmallFolder.MountAsync(64, CopiesPath);
        var store = Open();
        var before = store.Traffic!.Value;
        for (var i = 0; i < 3; i++)
        {
            Assert.Equal(100, await store.Near.ReadAsync(Key, 1000 * i, new byte[100], None));
        }
        var traffic = store.Traffic!.Value.Since(before);
        Assert.Equal((3L, 300L), (traffic.Reads, traffic.BytesReceived));
        await RequireRangesAsync(store.Near);
        Assert.Empty(Directory.GetFiles(CopiesPath));
    }

    private CloudStore Open(long bytesMax = 1 << 30)
    {
        var options = new CloudStoreOptions
        {
            SpoolFolder = _folder.File("spool"), CopiesFolder = CopiesPath, CopiesBytesMax = bytesMax,
            Patience = new RequestPatience { FirstPause = TimeSpan.FromMilliseconds(5), PauseMax = TimeSpan.FromMilliseconds(50) },
        };
        var store = StoreOpener.OpenCloud(_location!, options);
        _opened.Add(store);
        return store;
    }

    private static async Task<long> RequestsForAsync(CloudStore store, Func<Task> action)
    {
        var before = store.Traffic!.Value;
        await action();
        return store.Traffic!.Value.Since(before).Requests;
    }

    private async Task RequireRangesAsync(IObjectStore store)
    {
        foreach (var (offset, length) in new[] { (0, 1), (65_530, 20), (100_000, 150_000), (299_990, 100), (300_001, 5), (0, 300_001) })
        {
            var read = new byte[length];
            var count = await store.ReadAsync(Key, offset, read, None);
            Assert.Equal(_content.AsSpan(offset, Math.Min(length, _content.Length - offset)), read.AsSpan(0, count));
        }
    }
}
