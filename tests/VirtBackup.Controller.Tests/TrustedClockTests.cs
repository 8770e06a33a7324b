using Microsoft.Extensions.Logging.Abstractions;
using VirtBackup.Catalog;
using VirtBackup.Controller.Retention;
using VirtBackup.Core;
using VirtBackup.Database;

namespace VirtBackup.Controller.Tests;

/// <summary>A wall clock and a boot clock that go apart, across restarts.</summary>
public sealed class TrustedClockTests : IAsyncDisposable
{
    private const long Minute = 60_000;
    private const long Hour = 60 * Minute;
    private const long Day = 24 * Hour;

    private static int _count;

    private readonly SqliteDatabase _database = SqliteDatabase.OpenInMemory($"trusted clock {Interlocked.Increment(ref _count)}", CatalogSchema.Migrations);
    private readonly TwoClocks _time = new();
    private TrustedClock? _clock;

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    [Fact]
    public async Task It_goes_with_the_clocks_while_they_agree()
    {
        await StartAsync();
        for (var i = 0; i < 100; i++)
        {
            _time.Pass(9 * Hour);
            Assert.Equal(new TrustedTime(_time.WallMs, true), await ReadAsync());
        }
    }

    [Fact]
    public async Task A_clock_set_back_is_not_followed()
    {
        await StartAsync();
        var before = (await ReadAsync()).NowMs;
        _time.Jump(-400 * Day);
        Assert.Equal(new TrustedTime(before, true), await ReadAsync());
        _time.Pass(5 * Day);
        Assert.Equal(new TrustedTime(before + (5 * Day), true), await ReadAsync());
    }

    [Fact]
    public async Task A_clock_set_ahead_stops_expiry_until_somebody_confirms()
    {
        await StartAsync();
        var before = (await ReadAsync()).NowMs;
        _time.Jump(400 * Day);
        Assert.Equal(new TrustedTime(before, false), await ReadAsync());
        _time.Pass(Day);
        Assert.Equal(new TrustedTime(before + Day, false), await ReadAsync());
        // Set right again: what happened meanwhile, nobody knows.
        _time.Jump(-400 * Day);
        Assert.False((await ReadAsync()).MayExpire);
        Assert.Equal(new TrustedTime(before + Day, true), await _clock!.ConfirmAsync(_time.WallMs + Minute, Token));
        Assert.True((await ReadAsync()).MayExpire);
    }

    [Fact]
    public async Task Confirming_needs_two_clocks_that_agree()
    {
        await StartAsync();
        _time.Jump(400 * Day);
        Assert.False((await ReadAsync()).MayExpire);
        var refused = await Assert.ThrowsAsync<FaultException>(async () => await _clock!.ConfirmAsync(_time.WallMs - (400 * Day), Token));
        Assert.Equal(FaultReason.FailedPrecondition, refused.Reason);
        Assert.False((await ReadAsync()).MayExpire);
        await _clock!.ConfirmAsync(_time.WallMs, Token);
        Assert.Equal(new TrustedTime(_time.WallMs, true), await ReadAsync());
    }

    [Fact]
    public async Task Many_small_jumps_are_one_large_jump()
    {
        await StartAsync();
        var began = (await ReadAsync()).NowMs;
        for (var i = 0; i < 5; i++)
        {
            _time.Jump(25 * Minute);
            _time.Pass(Minute);
            _ = await ReadAsync();
        }
        var now = await ReadAsync();
        Assert.False(now.MayExpire);
        Assert.InRange(now.NowMs - began, 0, Hour + (5 * Minute));
    }

    [Fact]
    public async Task Corrections_that_are_small_and_rare_are_followed_for_ever()
    {
        await StartAsync();
        for (var i = 0; i < 60; i++)
        {
            _time.Pass(20 * Day);
            _time.Jump(30 * Minute);
            Assert.Equal(new TrustedTime(_time.WallMs, true), await ReadAsync());
        }
    }

    [Fact]
    public async Task Within_one_boot_a_restart_loses_nothing()
    {
        await StartAsync();
        await StopAsync();
        _time.Pass(9 * Day);
        await StartAsync();
        Assert.Equal(new TrustedTime(_time.WallMs, true), await ReadAsync());
        await StopAsync();
        _time.Jump(2 * Hour);
        _time.Pass(9 * Day);
        await StartAsync();
        Assert.Equal(new TrustedTime(_time.WallMs - (2 * Hour), false), await ReadAsync());
    }

    [Theory]
    [InlineData("")]
    [InlineData("second")]
    public async Task After_a_boot_a_short_pause_is_believed_and_a_long_one_confirmed(string boot)
    {
        await StartAsync();
        await StopAsync();
        _time.Reboot(20 * Minute);
        await StartAsync(boot);
        Assert.Equal(new TrustedTime(_time.WallMs, true), await ReadAsync());
        await StopAsync();
        var before = _time.WallMs;
        _time.Reboot(3 * Day);
        await StartAsync(boot.Length == 0 ? "" : "third");
        Assert.Equal(new TrustedTime(before, false), await ReadAsync());
        // It stays so across the next restart, too.
        await StopAsync();
        await StartAsync(boot.Length == 0 ? "" : "third");
        Assert.False((await ReadAsync()).MayExpire);
    }

    [Fact]
    public async Task A_clock_set_back_while_the_controller_was_stopped_is_not_followed()
    {
        await StartAsync();
        var before = (await ReadAsync()).NowMs;
        await StopAsync();
        _time.Reboot(Hour);
        _time.Jump(-30 * Day);
        await StartAsync("second");
        Assert.Equal(new TrustedTime(before, true), await ReadAsync());
    }

    [Theory]
    [InlineData(10 * Minute, true)]
    [InlineData(5 * Day, false)]
    [InlineData(-10 * Minute, true)]
    [InlineData(-5 * Day, false)]
    public async Task With_a_lost_catalog_no_more_is_known_than_the_newest_point_says(long wallAfterPointMs, bool mayExpire)
    {
        var point = _time.WallMs - wallAfterPointMs;
        await StartAsync(newestPointMs: point);
        var now = await ReadAsync();
        Assert.Equal(mayExpire, now.MayExpire);
        Assert.InRange(now.NowMs, 0, mayExpire ? _time.WallMs : Math.Min(point, _time.WallMs));
    }

    public async ValueTask DisposeAsync()
    {
        _clock?.Dispose();
        await _database.DisposeAsync();
    }

    private async Task StartAsync(string boot = "first", long? newestPointMs = null)
    {
        _clock = new TrustedClock(new TrustedTimeRecords(_database), boot, _time, NullLogger<TrustedClock>.Instance);
        await _clock.StartAsync(newestPointMs, Token);
    }

    private async Task StopAsync()
    {
        // Its loop has written the mark at least a minute ago; time that it did not write is not lost within a boot.
        _ = await ReadAsync();
        _clock!.Dispose();
    }

    private async Task<TrustedTime> ReadAsync() => await _clock!.ReadAsync(Token);

    private sealed class TwoClocks : TimeProvider
    {
        private long _ticksMs = 7 * Hour;

        public long WallMs { get; private set; } = new DateTimeOffset(2031, 5, 4, 3, 2, 1, TimeSpan.Zero).ToUnixTimeMilliseconds();

        public override long TimestampFrequency => 1000;

        public override long GetTimestamp() => _ticksMs;

        public override DateTimeOffset GetUtcNow() => DateTimeOffset.FromUnixTimeMilliseconds(WallMs);

        public void Pass(long ms) => (WallMs, _ticksMs) = (WallMs + ms, _ticksMs + ms);

        public void Jump(long ms) => WallMs += ms;

        public void Reboot(long ms) => (WallMs, _ticksMs) = (WallMs + ms, 1000);
    }
}
