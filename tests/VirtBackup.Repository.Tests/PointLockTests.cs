using VirtBackup.Core;
using VirtBackup.Format;
using VirtBackup.Repository.Points;
using VirtBackup.Testing.Stores;

namespace VirtBackup.Repository.Tests;

public sealed class PointLockTests
{
    private static readonly Id16 Point = new(7);
    private static readonly Id16 Other = new(8);

    private readonly SimulatedStore _store = new(new SimulatedStoreOptions());

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    [Fact]
    public async Task ALockIsLengthenedAndNeverShortened()
    {
        var locks = new PointLocks(_store);
        Assert.Equal(0, await locks.FindAsync(Point, Token));
        await locks.LengthenAsync(Point, 1000, Token);
        await locks.LengthenAsync(Point, 5000, Token);
        await locks.LengthenAsync(Point, 5000, Token);
        var refused = await Assert.ThrowsAsync<FaultException>(async () => await locks.LengthenAsync(Point, 4999, Token));
        Assert.Equal(FaultReason.FailedPrecondition, refused.Reason);
        Assert.Equal(5000, await locks.FindAsync(Point, Token));
        Assert.Equal(0, await locks.FindAsync(Other, Token));
        // Nothing of it was ever taken away or written anew.
        Assert.NotNull(await _store.FindAsync(ObjectKeys.Lock(Point, 1000), Token));
        Assert.NotNull(await _store.FindAsync(ObjectKeys.Lock(Point, 5000), Token));
    }

    [Fact]
    public async Task OfSeveralLocksTheLatestCountsForWhoeverDeletes()
    {
        var locks = new PointLocks(_store);
        await _store.PutAsync(ObjectKeys.Lock(Point, 9000), new byte[1], Token);
        await _store.PutAsync(ObjectKeys.Lock(Point, 200), ReadOnlyMemory<byte>.Empty, Token);
        await locks.LengthenAsync(Other, 300, Token);
        Assert.Equal([(Point, 9000L), (Other, 300L)], (await locks.ListAsync(Token)).Select(static pair => (pair.Key, pair.Value)).Order());
        await locks.RequireUnlockedAsync(Point, 9000, Token);
        var refused = await Assert.ThrowsAsync<FaultException>(async () => await locks.RequireUnlockedAsync(Point, 8999, Token));
        Assert.Equal(FaultReason.RetentionLocked, refused.Reason);
    }
}
