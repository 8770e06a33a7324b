using System.Security.Cryptography;
using VirtBackup.CloudStores;
using VirtBackup.Core;

namespace VirtBackup.ObjectStores.Tests.Cloud;

public sealed class CephConformance(ObjectServers servers) : CloudStoreConformance(servers, s3: true);

public sealed class AzuriteConformance(ObjectServers servers) : CloudStoreConformance(servers, s3: false);

public abstract class CloudStoreConformance(ObjectServers servers, bool s3) : StoreConformance, IAsyncLifetime
{
    private readonly string _spool = Directory.CreateTempSubdirectory("virtbackup-spool-").FullName;
    private StoreLocation? _location;
    private CloudStore? _store;

    protected override IObjectStore Store => _store!;

    protected override bool TellsAbsence => false;

    public async ValueTask InitializeAsync()
    {
        var server = await servers.GetAsync(s3);
        _location = StoreLocation.Parse(server.LocationOf($"conformance/{Id16.Create(SystemEntropy.Instance)}"));
        _store = StoreOpener.OpenCloud(_location, new CloudStoreOptions { SpoolFolder = _spool });
    }

    public ValueTask DisposeAsync()
    {
        _store?.Dispose();
        Directory.Delete(_spool, recursive: true);
        GC.SuppressFinalize(this);
        return ValueTask.CompletedTask;
    }

    protected override int CountStaged() => Directory.GetFiles(_spool).Length;

    [Fact]
    public async Task Long_objects_go_in_parts_and_are_given_once()
    {
        var bytes = RandomNumberGenerator.GetBytes((70 << 20) + 12_345);
        Assert.True(await Store.PutAsync("long/1", bytes, None));
        var read = new byte[bytes.Length];
        await Store.ReadExactlyAsync("long/1", 0, read, None);
        Assert.True(bytes.AsSpan().SequenceEqual(read));
        Assert.False(await Store.PutAsync("long/1", bytes, None));
        Assert.Equal(["long/1"], await KeysAsync(""));
        Assert.True(Store.Traffic!.Value.BytesSent >= bytes.Length);
    }

    [Fact]
    public async Task Lists_are_longer_than_a_page()
    {
        // Pages of both servers have 1000 names at most, or 5000.
        var keys = Enumerable.Range(0, s3 ? 1005 : 30).Select(static i => $"many/{i:d5}").ToArray();
        await Task.WhenAll(keys.Chunk(keys.Length / 15).Select(async part =>
        {
            foreach (var key in part)
            {
                await Store.PutAsync(key, new byte[1], None);
            }
        }));
        var before = Store.Traffic!.Value;
        Assert.Equal(keys, await KeysAsync("many/"));
        Assert.Equal(s3 ? 2 : 1, Store.Traffic!.Value.Since(before).Lists);
    }

    [Fact]
    public async Task Who_reads_changes_nothing()
    {
        await Store.PutAsync("r/1", new byte[] { 1 }, None);
        await using var reader = StoreOpener.OpenForReading(_location!);
        Assert.Equal([1], await reader.Store.ReadAllAsync("r/1", 1, None));
        await RefusesAsync(FaultReason.Denied, async () => await reader.Store.CreateAsync(None));
        await RefusesAsync(FaultReason.Denied, async () => await reader.Store.DeleteAsync("r/1", None));
    }

    [Fact]
    public async Task What_an_earlier_process_left_in_the_spool_is_removed()
    {
        await using var writer = await Store.CreateAsync(None);
        await writer.WriteAsync(new byte[10], None);
        Assert.Equal(1, CountStaged());
        using (StoreOpener.OpenCloud(_location!, new CloudStoreOptions { SpoolFolder = _spool }))
        {
            Assert.Equal(0, CountStaged());
        }
    }

    [Fact]
    public async Task A_bucket_that_is_not_there_is_named()
    {
        var missing = StoreLocation.Parse(_location!.Text.Replace("/virtbackup/", "/nobody-has-made-this/", StringComparison.Ordinal));
        await using var reader = StoreOpener.OpenForReading(missing);
        var fault = await RefusesAsync(FaultReason.Unavailable, async () => await reader.Store.ListAsync("", None).GetAsyncEnumerator(None).MoveNextAsync());
        Assert.Contains("'nobody-has-made-this'", fault.Message, StringComparison.Ordinal);
    }
}
