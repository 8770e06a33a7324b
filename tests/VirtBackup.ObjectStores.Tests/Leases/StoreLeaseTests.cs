using VirtBackup.CloudStores;
using VirtBackup.CloudStores.Leases;
using VirtBackup.Core;
using VirtBackup.ObjectStores.Tests.Cloud;
using VirtBackup.Testing.Stores;

namespace VirtBackup.ObjectStores.Tests.Leases;

public sealed class SimulatedLeaseTests : StoreLeaseTests
{
    protected override ValueTask<IObjectStore> OpenAsync() => ValueTask.FromResult<IObjectStore>(new SimulatedStore());
}

public sealed class CephLeaseTests(ObjectServers servers) : ServedLeaseTests(servers, s3: true);

public sealed class AzuriteLeaseTests(ObjectServers servers) : ServedLeaseTests(servers, s3: false);

public abstract class ServedLeaseTests(ObjectServers servers, bool s3) : StoreLeaseTests
{
    private readonly string _spool = Directory.CreateTempSubdirectory("virtbackup-spool-").FullName;
    private CloudStore? _store;

    protected override async ValueTask<IObjectStore> OpenAsync()
    {
        var server = await servers.GetAsync(s3);
        return _store = StoreOpener.OpenCloud(StoreLocation.Parse(server.LocationOf($"lease/{Id16.Create(SystemEntropy.Instance)}")), new CloudStoreOptions { SpoolFolder = _spool });
    }

    public override ValueTask DisposeAsync()
    {
        _store?.Dispose();
        Directory.Delete(_spool, recursive: true);
        GC.SuppressFinalize(this);
        return base.DisposeAsync();
    }
}

/// <summary>
/// Never do two owners hold one store. Each taker has a time of its own: one whose time stands still has died. No test passes
/// time without waiting for what it should cause.
/// </summary>
public abstract class StoreLeaseTests : IAsyncLifetime
{
    private static readonly CancellationToken None = CancellationToken.None;
    private static readonly TimeSpan s_length = TimeSpan.FromSeconds(90);
    private IObjectStore? _store;

    private IObjectStore Store => _store!;

    protected abstract ValueTask<IObjectStore> OpenAsync();

    public async ValueTask InitializeAsync() => _store = await OpenAsync();

    public virtual ValueTask DisposeAsync()
    {
        GC.SuppressFinalize(this);
        return ValueTask.CompletedTask;
    }

    [Fact]
    public async Task Who_lives_keeps_it_and_is_named()
    {
        var time = new ManualTime();
        await using var first = await StoreLease.TakeAsync(Store, Terms("first", time), None);
        var waits = new List<string>();
        var second = StoreLease.TakeAsync(Store, Terms("second", time) with { OnWait = waits.Add }, None).AsTask();
        await UntilAsync(() => time.Waiting == 2);
        time.Pass(s_length / 3);
        await UntilAsync(async () => (await NumbersAsync()).Contains(2));
        await PassUntilEndAsync(second, time, waiting: 2);
        var busy = await Assert.ThrowsAsync<FaultException>(() => second);
        Assert.Equal(FaultReason.RepositoryBusy, busy.Reason);
        Assert.Contains("first uses ", busy.Message, StringComparison.Ordinal);
        Assert.Contains("first uses ", waits[0], StringComparison.Ordinal);
        first.Require();
    }

    [Fact]
    public async Task Who_died_is_followed_when_its_lease_has_ended_and_learns_of_it()
    {
        var (deadTime, time) = (new ManualTime(), new ManualTime());
        var dead = await StoreLease.TakeAsync(Store, Terms("dead", deadTime), None);
        var next = StoreLease.TakeAsync(Store, Terms("next", time), None).AsTask();
        Assert.Equal(s_length, await PassUntilEndAsync(next, time, waiting: 1));
        await using var lease = await next;
        lease.Require();
        // As after a pause of its process: until it looks, it believes that nothing has happened.
        dead.Require();
        await PassUntilAsync(deadTime, () => IsRefused(dead, FaultReason.Fenced, "next has taken over "));
        await dead.DisposeAsync();
        lease.Require();
        Assert.Equal([2], await NumbersAsync());
    }

    [Fact]
    public async Task Who_could_not_renew_stops_by_itself_at_its_end_and_goes_on_if_nobody_came()
    {
        var time = new ManualTime();
        var way = new SwitchedStore(Store);
        await using var lease = await StoreLease.TakeAsync(way, Terms("holder", time), None);
        way.IsAway = true;
        time.Pass(s_length - TimeSpan.FromMilliseconds(1));
        lease.Require();
        time.Pass(TimeSpan.FromMilliseconds(1));
        Assert.True(IsRefused(lease, FaultReason.Unavailable, "could not be renewed for 90 s"));
        way.IsAway = false;
        await PassUntilAsync(time, () => !IsRefused(lease, FaultReason.Unavailable, ""));
    }

    [Fact]
    public async Task What_is_given_back_or_was_an_earlier_process_of_ones_own_is_not_waited_for()
    {
        var first = await StoreLease.TakeAsync(Store, Terms("first", new ManualTime()), None);
        await first.DisposeAsync();
        Assert.Equal([2], await NumbersAsync());
        var (holder, time) = (Id16.Create(SystemEntropy.Instance), new ManualTime());
        var killed = await StoreLease.TakeAsync(Store, Terms("second", time) with { Holder = holder }, None);
        await using var restarted = await StoreLease.TakeAsync(Store, Terms("third", new ManualTime()) with { Holder = holder }, None);
        restarted.Require();
        await PassUntilAsync(time, () => IsRefused(killed, FaultReason.Fenced, "third has taken over "));
        await killed.DisposeAsync();
    }

    [Fact]
    public async Task Of_many_who_come_at_once_one_gets_it()
    {
        for (var round = 0; round < 3; round++)
        {
            using var end = new CancellationTokenSource();
            var takers = Enumerable.Range(0, 5).Select(i => Task.Run(async () =>
            {
                try
                {
                    return await StoreLease.TakeAsync(Store, Terms($"taker {i}", new ManualTime()), end.Token);
                }
                catch (Exception failure) when (failure is OperationCanceledException or FaultException { Reason: FaultReason.RepositoryBusy })
                {
                    return null;
                }
            }, None)).ToArray();
            // Some of the others wait for the lease of the one who has it, by times that stand still.
            await UntilAsync(() => Array.Exists(takers, static taker => taker.IsCompletedSuccessfully && taker.Result is not null) || Array.TrueForAll(takers, static taker => taker.IsCompleted));
            await Task.Delay(100, None);
            await end.CancelAsync();
            var holders = (await Task.WhenAll(takers)).OfType<StoreLease>().ToList();
            var holder = Assert.Single(holders);
            holder.Require();
            await holder.DisposeAsync();
        }
    }

    [Fact]
    public async Task Nothing_is_changed_without_the_lease_and_its_objects_are_not_seen()
    {
        var time = new ManualTime();
        var terms = Terms("holder", time);
        var lease = await StoreLease.TakeAsync(Store, terms, None);
        var leased = new LeasedStore(Store, lease);
        await leased.PutAsync("packs/1", new byte[] { 1 }, None);
        Assert.Equal(["packs/1"], await KeysAsync(leased));
        await using (var writer = await leased.CreateAsync(None))
        {
            await writer.WriteAsync(new byte[] { 2 }, None);
            await using var next = await StoreLease.TakeAsync(Store, terms with { HolderName = "next", Time = new ManualTime() }, None);
            await PassUntilAsync(time, () => IsRefused(lease, FaultReason.Fenced, ""));
            await Assert.ThrowsAsync<FaultException>(async () => await writer.PublishAsync("packs/2", None));
        }
        await Assert.ThrowsAsync<FaultException>(async () => await leased.CreateAsync(None));
        await Assert.ThrowsAsync<FaultException>(async () => await leased.DeleteAsync("packs/1", None));
        Assert.Equal(["packs/1"], await KeysAsync(leased));
        await lease.DisposeAsync();
    }

    private static LeaseTerms Terms(string name, ManualTime time) =>
        new() { Holder = Id16.Create(SystemEntropy.Instance), HolderName = name, Length = s_length, Time = time };

    private static bool IsRefused(StoreLease lease, FaultReason reason, string words)
    {
        try
        {
            lease.Require();
            return false;
        }
        catch (FaultException refused)
        {
            Assert.Equal(reason, refused.Reason);
            Assert.Contains(words, refused.Message, StringComparison.Ordinal);
            return true;
        }
    }

    private async Task<List<long>> NumbersAsync() =>
        [.. (await KeysAsync(Store)).Where(static key => key.StartsWith(StoreLease.Prefix, StringComparison.Ordinal)).Select(static key => long.Parse(key[StoreLease.Prefix.Length..], System.Globalization.CultureInfo.InvariantCulture)).Order()];

    private static async Task<List<string>> KeysAsync(IObjectStore store)
    {
        var keys = new List<string>();
        await foreach (var found in store.ListAsync("", None))
        {
            keys.Add(found.Key);
        }
        return keys;
    }

    /// <summary>Lets time pass whenever so many wait for it, a lease's length at most; returns how much.</summary>
    private static async Task<TimeSpan> PassUntilEndAsync(Task task, ManualTime time, int waiting)
    {
        var passed = TimeSpan.Zero;
        for (var step = 0; step < 20 && !task.IsCompleted; step++)
        {
            await UntilAsync(() => task.IsCompleted || time.Waiting >= waiting);
            if (!task.IsCompleted)
            {
                time.Pass(s_length / 20);
                passed += s_length / 20;
            }
        }
        await UntilAsync(() => task.IsCompleted);
        return passed;
    }

    /// <summary>Lets time pass in steps as long as a renewal waits for; after each there is time for what it causes.</summary>
    private static async Task PassUntilAsync(ManualTime time, Func<bool> isSo)
    {
        for (var step = 0; step < 30; step++)
        {
            time.Pass(s_length / 3);
            for (var look = 0; look < 100; look++)
            {
                if (isSo())
                {
                    return;
                }
                await Task.Delay(20, None);
            }
        }
        Assert.Fail("It did not come.");
    }

    private static Task UntilAsync(Func<bool> isSo) => UntilAsync(() => Task.FromResult(isSo()));

    private static async Task UntilAsync(Func<Task<bool>> isSo)
    {
        using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(60));
        while (!await isSo())
        {
            await Task.Delay(20, limit.Token);
        }
    }
}
