using System.Security.Cryptography;
using VirtBackup.CloudStores;
using VirtBackup.CloudStores.Requests;
using VirtBackup.Core;
using VirtBackup.Testing.Lab;

namespace VirtBackup.ObjectStores.Tests.Cloud;

public sealed class CephFaultTests(ObjectServers servers) : CloudFaultTests(servers, s3: true);

public sealed class AzuriteFaultTests(ObjectServers servers) : CloudFaultTests(servers, s3: false);

/// <summary>A proxy spoils requests on their way to a real server and its answers: the right result, or one clear fault.</summary>
public abstract class CloudFaultTests(ObjectServers servers, bool s3) : IAsyncLifetime
{
    private const string Key = "packs/ab/1";
    private static readonly CancellationToken None = CancellationToken.None;
    private readonly string _spool = Directory.CreateTempSubdirectory("virtbackup-spool-").FullName;
    private readonly byte[] _content = RandomNumberGenerator.GetBytes(300_001);
    private FaultProxy? _proxy;
    private CloudStore? _store;
    private OpenStore? _direct;

    private FaultProxy Proxy => _proxy!;

    private CloudStore Store => _store!;

    /// <summary>The same objects, past the proxy.</summary>
    private IObjectStore Direct => _direct!.Store;

    public async ValueTask InitializeAsync()
    {
        var server = await servers.GetAsync(s3);
        var prefix = $"faults/{Id16.Create(SystemEntropy.Instance)}";
        _proxy = new FaultProxy(server.Endpoint);
        var options = new CloudStoreOptions
        {
            SpoolFolder = _spool,
            // A stall must be told from a busy machine.
            Patience = new RequestPatience { Answer = TimeSpan.FromSeconds(2), FirstPause = TimeSpan.FromMilliseconds(5), PauseMax = TimeSpan.FromMilliseconds(50), AttemptsMax = 4 },
        };
        _store = StoreOpener.OpenCloud(StoreLocation.Parse(server.LocationOf(prefix, _proxy.Endpoint)), options);
        _direct = StoreOpener.OpenForReading(StoreLocation.Parse(server.LocationOf(prefix)));
    }

    public async ValueTask DisposeAsync()
    {
        _store?.Dispose();
        if (_direct is not null)
        {
            await _direct.DisposeAsync();
        }
        if (_proxy is not null)
        {
            await _proxy.DisposeAsync();
        }
        Directory.Delete(_spool, recursive: true);
        GC.SuppressFinalize(this);
    }

    [Theory]
    [InlineData(HttpFault.ServerError)]
    [InlineData(HttpFault.SlowDown)]
    [InlineData(HttpFault.NoAnswer)]
    [InlineData(HttpFault.ResetRequest)]
    [InlineData(HttpFault.FlipRequest)]
    [InlineData(HttpFault.LoseAnswer)]
    [InlineData(HttpFault.HoldAnswer)]
    public async Task A_put_that_meets_a_fault_once_stores_the_object_once(HttpFault fault)
    {
        Plant(fault, "PUT", times: 1);
        Assert.True(await Store.PutAsync(Key, _content, None));
        Assert.Equal(1, Proxy.Faults);
        Assert.Equal(_content, await Direct.ReadAllAsync(Key, _content.Length, None));
        // The name is taken now, and whoever did not store it is told so, however its answers fare.
        Plant(fault, "PUT", times: 1);
        Assert.False(await Store.PutAsync(Key, new byte[100], None));
        Assert.Equal(_content, await Direct.ReadAllAsync(Key, _content.Length, None));
    }

    [Theory]
    [InlineData(HttpFault.ServerError)]
    [InlineData(HttpFault.ResetRequest)]
    [InlineData(HttpFault.FlipRequest)]
    public async Task A_put_that_never_comes_through_is_one_clear_fault_and_no_object(HttpFault fault)
    {
        Plant(fault, "PUT", times: int.MaxValue);
        var failed = await Assert.ThrowsAsync<FaultException>(async () => await Store.PutAsync(Key, _content, None));
        Assert.Equal(FaultReason.Unavailable, failed.Reason);
        Assert.Contains($"store {Key}", failed.Message, StringComparison.Ordinal);
        // A look for the object between two puts may take longer than its limit on a busy machine, and is a try of its own.
        Assert.InRange(Proxy.Faults, 2, 4);
        Assert.Null(await Direct.FindAsync(Key, None));
        Assert.Empty(Directory.GetFiles(_spool));
    }

    [Theory]
    [InlineData(HttpFault.ServerError)]
    [InlineData(HttpFault.SlowDown)]
    [InlineData(HttpFault.NoAnswer)]
    [InlineData(HttpFault.LoseAnswer)]
    [InlineData(HttpFault.ResetAnswer)]
    [InlineData(HttpFault.ShortAnswer)]
    [InlineData(HttpFault.FlipAnswer)]
    public async Task A_read_that_meets_a_fault_once_gets_the_bytes(HttpFault fault)
    {
        await Store.PutAsync(Key, _content, None);
        Plant(fault, "GET", times: 1);
        var whole = new byte[_content.Length];
        Assert.Equal(whole.Length, await Store.ReadAsync(Key, 0, whole, None));
        Assert.Equal(_content, whole);
        Assert.Equal(1, Proxy.Faults);
    }

    [Theory]
    [InlineData(HttpFault.ServerError, FaultReason.Unavailable)]
    [InlineData(HttpFault.ShortAnswer, FaultReason.Unavailable)]
    [InlineData(HttpFault.FlipAnswer, FaultReason.Corrupt)]
    public async Task A_read_that_never_comes_through_is_one_clear_fault(HttpFault fault, FaultReason reason)
    {
        await Store.PutAsync(Key, _content, None);
        Plant(fault, "GET", times: int.MaxValue);
        var failed = await Assert.ThrowsAsync<FaultException>(async () => await Store.ReadAsync(Key, 0, new byte[_content.Length], None));
        Assert.Equal(reason, failed.Reason);
        Assert.Contains(Key, failed.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Bytes_that_came_before_a_break_are_not_asked_for_again()
    {
        await Store.PutAsync(Key, _content, None);
        Plant(HttpFault.ResetAnswer, "GET", times: 2);
        var before = Store.Traffic!.Value;
        var whole = new byte[_content.Length];
        await Store.ReadExactlyAsync(Key, 0, whole, None);
        Assert.Equal(_content, whole);
        // All, then the second half, then the fourth quarter at most; whatever did not arrive of a half is asked for again.
        var asked = Store.Traffic!.Value.Since(before);
        Assert.InRange(asked.Reads, 3, 3);
        Assert.True(asked.BytesReceived < 3L * _content.Length);
    }

    [Theory]
    [InlineData(HttpFault.ServerError)]
    [InlineData(HttpFault.LoseAnswer)]
    [InlineData(HttpFault.ResetAnswer)]
    public async Task Looking_listing_and_deleting_survive_a_fault(HttpFault fault)
    {
        await Store.PutAsync(Key, _content, None);
        Plant(fault, "HEAD", times: 1);
        Assert.Equal(_content.Length, (await Store.FindAsync(Key, None))!.Value.Length);
        Plant(fault, "GET", times: 1);
        var keys = new List<string>();
        await foreach (var found in Store.ListAsync("", None))
        {
            keys.Add(found.Key);
        }
        Assert.Equal([Key], keys);
        Plant(fault == HttpFault.ResetAnswer ? HttpFault.HoldAnswer : fault, "DELETE", times: 1);
        Assert.True(await Store.DeleteAsync(Key, None));
        Assert.Null(await Direct.FindAsync(Key, None));
    }

    private void Plant(HttpFault fault, string method, int times)
    {
        var left = times;
        Proxy.Choose = (asked, _) => asked == method && Interlocked.Decrement(ref left) >= 0 ? fault : HttpFault.None;
    }
}
