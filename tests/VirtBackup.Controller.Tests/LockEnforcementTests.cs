using Google.Protobuf.WellKnownTypes;
using VirtBackup.Controller.Tests.Fixtures;
using VirtBackup.Core;
using VirtBackup.Format;
using VirtBackup.Protocol.Admin.V1;
using VirtBackup.Testing.Stores;

namespace VirtBackup.Controller.Tests;

/// <summary>A lock binds the controller at once, and soon its store's provider; what is in the way is told.</summary>
public sealed class LockEnforcementTests : IAsyncLifetime
{
    private static readonly byte[] s_disk = [1, .. new byte[4095]];

    private CancellationTokenSource _stop = CancellationTokenSource.CreateLinkedTokenSource(World.Token);
    private World _world = null!;
    private TestAgent _agent = null!;
    private Task _running = Task.CompletedTask;

    private RetainingStore Provider => _world.Retaining!;

    public async ValueTask InitializeAsync()
    {
        _world = await World.CreateAsync(retains: true);
        _agent = await _world.EnrollAsync();
        _running = _world.Role.RunAsync(_stop.Token);
    }

    public async ValueTask DisposeAsync()
    {
        await EndAsync();
        await _world.DisposeAsync();
    }

    [Fact]
    public async Task What_a_locked_point_needs_is_soon_retained_and_stays_so_after_a_restart()
    {
        var point = (await StoreTests.BackUpAsync(_agent, s_disk)).PointId;
        Assert.Empty(Provider.Until);
        var until = _world.Time.GetUtcNow().AddDays(9);
        await LockAsync(point, until);
        await UntilAsync(static locks => locks is { PointsLocked: 1, PointsEnforced: 1, ObjectsWaiting: 0 });
        var manifest = Assert.Single(await KeysAsync(ObjectKeys.RecoveryPointsPrefix));
        string[] needed = [manifest, ObjectKeys.Format, .. await KeysAsync(ObjectKeys.PacksPrefix), .. await KeysAsync(ObjectKeys.KeysPrefix), .. await KeysAsync($"{ObjectKeys.LocksPrefix}{point}/")];
        Assert.All(needed, key => Assert.Equal(until.ToUnixTimeMilliseconds(), Provider.Until[key]));
        Assert.Equal((ulong)Provider.Until.Count, (await StatusAsync()).ObjectsRetained);
        var asked = Provider.Asked.Count;
        await EndAsync();
        await _world.RestartAsync();
        (_stop, _running) = (CancellationTokenSource.CreateLinkedTokenSource(World.Token), Task.CompletedTask);
        _running = _world.Role.RunAsync(_stop.Token);
        await UntilAsync(static locks => locks is { PointsEnforced: 1 });
        Assert.Equal(asked, Provider.Asked.Count);
    }

    [Fact]
    public async Task A_provider_that_is_away_is_told_of_and_asked_again()
    {
        var point = (await StoreTests.BackUpAsync(_agent, s_disk)).PointId;
        Provider.Left = 2;
        await LockAsync(point, _world.Time.GetUtcNow().AddDays(9));
        await UntilAsync(static locks => locks.Problem.Contains("The provider is away.", StringComparison.Ordinal));
        Assert.Equal(0UL, (await StatusAsync()).PointsEnforced);
        Assert.NotEqual(0UL, (await StatusAsync()).ObjectsWaiting);
        // It binds all the same.
        var held = await Assert.ThrowsAsync<FaultException>(async () => await _world.Role.Admin.ForgetRecoveryPointAsync(new ForgetRecoveryPointRequest { Point = point }, World.Token));
        Assert.Equal(FaultReason.RetentionLocked, held.Reason);
        Provider.Left = int.MaxValue;
        await UntilAsync(static locks => locks is { PointsEnforced: 1, ObjectsWaiting: 0, Problem: "" }, passing: TimeSpan.FromMinutes(5));
    }

    [Fact]
    public async Task Where_the_provider_cannot_a_lock_is_refused_before_anything_is_promised()
    {
        var point = (await StoreTests.BackUpAsync(_agent, s_disk)).PointId;
        Provider.CanRetain = false;
        var refused = await Assert.ThrowsAsync<FaultException>(async () => await LockAsync(point, _world.Time.GetUtcNow().AddDays(9)));
        Assert.Equal(FaultReason.FailedPrecondition, refused.Reason);
        Assert.Empty(await KeysAsync(ObjectKeys.LocksPrefix));
    }

    private async Task EndAsync()
    {
        await _stop.CancelAsync();
        await _running.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing | ConfigureAwaitOptions.ContinueOnCapturedContext);
        _stop.Dispose();
    }

    private async Task LockAsync(string point, DateTimeOffset until) =>
        await _world.Role.Retention.LockPointAsync(new LockPointRequest { Point = point, Until = Timestamp.FromDateTimeOffset(until) }, World.Token);

    private async Task<ProviderLocks> StatusAsync() => (await _world.Role.Admin.GetStatusAsync(World.Token)).ProviderLocks;

    private async Task UntilAsync(Func<ProviderLocks, bool> isSo, TimeSpan passing = default)
    {
        for (var i = 0; !isSo(await StatusAsync()); i++)
        {
            Assert.True(i < 500, "It did not happen.");
            _world.Time.Advance(passing);
            await Task.Delay(20, World.Token);
        }
    }

    private async Task<List<string>> KeysAsync(string prefix)
    {
        var keys = new List<string>();
        await foreach (var found in _world.Store.ListAsync(prefix, World.Token))
        {
            keys.Add(found.Key);
        }
        return keys;
    }
}
