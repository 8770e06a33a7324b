using VirtBackup.Controller.Replication;
using VirtBackup.Controller.Tests.Fixtures;
using VirtBackup.Core;
using VirtBackup.Protocol.Admin.V1;
using static VirtBackup.Controller.Tests.EnrollmentTests;
using static VirtBackup.Controller.Tests.StoreTests;

namespace VirtBackup.Controller.Tests.Replication;

public sealed class ReplicationRuleTests
{
    [Theory]
    [InlineData("2031-05-05T06:59:59Z", 100)] // a Monday
    [InlineData("2031-05-05T07:00:00Z", 20)]
    [InlineData("2031-05-05T18:59:59Z", 20)]
    [InlineData("2031-05-05T19:00:00Z", 100)]
    [InlineData("2031-05-10T12:00:00Z", 100)] // a Saturday
    [InlineData("2031-05-10T22:30:00Z", 0)]
    [InlineData("2031-05-11T01:59:00Z", 0)] // goes on over midnight
    [InlineData("2031-05-11T02:00:00Z", 100)]
    [InlineData("2031-05-11T22:30:00Z", 100)] // and does not start on a Sunday
    public void The_limit_follows_the_time_of_day(string time, ulong expected)
    {
        var rule = new ReplicationRule { BytesPerSecondMax = 100 };
        rule.Windows.Add(new RateWindow { StartMinute = 7 * 60, EndMinute = 19 * 60, Days = { 1, 2, 3, 4, 5 }, BytesPerSecondMax = 20 });
        rule.Windows.Add(new RateWindow { StartMinute = 22 * 60, EndMinute = 2 * 60, Days = { 6 } });
        Assert.Equal(expected, RateLimit.RateAt(rule, DateTimeOffset.Parse(time, System.Globalization.CultureInfo.InvariantCulture)));
    }

    [Fact]
    public async Task What_comes_waits_for_the_rate()
    {
        await using var world = await World.CreateAsync();
        var limit = new RateLimit(new ReplicationRule { BytesPerSecondMax = 1000 }, world.Time);
        var spending = limit.SpendAsync(2000, World.Token).AsTask();
        world.Time.Advance(TimeSpan.FromSeconds(1.5));
        Assert.False(spending.IsCompleted);
        world.Time.Advance(TimeSpan.FromSeconds(0.5));
        await spending.WaitAsync(World.Token);
        Assert.Equal(2000, limit.Received);
    }

    [Fact]
    public async Task Rules_out_of_bounds_are_refused()
    {
        await using var site = await Site.StartAsync("b");
        await site.Role.Catalog.Peers.EnsureAsync("a", 1, World.Token);
        Action<ReplicationRule>[] wrong =
        [
            static rule => rule.Streams = 17,
            static rule => rule.EveryMinutes = 525_601,
            static rule => rule.LockDays = 3651,
            static rule => rule.Vms.Add(""),
            static rule => rule.Windows.Add(new RateWindow { StartMinute = 1440, EndMinute = 1 }),
            static rule => rule.Windows.Add(new RateWindow { StartMinute = 5, EndMinute = 5 }),
            static rule => rule.Windows.Add(new RateWindow { EndMinute = 1441 }),
            static rule => rule.Windows.Add(new RateWindow { EndMinute = 60, Days = { 8 } }),
        ];
        foreach (var change in wrong)
        {
            await RefusedAsync(FaultReason.InvalidArgument, () => site.SetRuleAsync("a", change));
        }
        await RefusedAsync(FaultReason.NotFound, () => site.SetRuleAsync("a", static rule => rule.RuleSet = "none"));
        await RefusedAsync(FaultReason.NotFound, () => site.SetRuleAsync("unknown"));
    }

    [Fact]
    public async Task A_continuous_rule_pulls_a_point_as_soon_as_it_is_there()
    {
        await using var a = await Site.StartAsync("a");
        await using var b = await Site.StartAsync("b");
        await b.JoinAsync(a);
        var agent = await a.World.EnrollAsync();
        await b.SetRuleAsync("a", static rule => rule.Paused = false);
        for (var i = 1; i <= 2; i++)
        {
            await BackUpAsync(agent, NewDisk());
            await WaitForAsync(b, i);
        }
        Assert.NotNull((await b.Role.Rules.GetReplicationStatusAsync(new GetReplicationStatusRequest(), World.Token)).Rules[0].LastSuccessTime);
    }

    [Fact]
    public async Task A_rule_with_an_interval_runs_when_it_is_due()
    {
        await using var a = await Site.StartAsync("a");
        await using var b = await Site.StartAsync("b");
        await b.JoinAsync(a);
        var agent = await a.World.EnrollAsync();
        await BackUpAsync(agent, NewDisk());
        await b.SetRuleAsync("a", static rule => (rule.Paused, rule.EveryMinutes) = (false, 60));
        await WaitForAsync(b, 1);
        await BackUpAsync(agent, NewDisk());
        b.World.Time.Advance(TimeSpan.FromMinutes(50));
        await Task.Delay(TimeSpan.FromMilliseconds(200), TimeProvider.System, World.Token);
        Assert.Single(await b.ListAsync());
        b.World.Time.Advance(TimeSpan.FromMinutes(10));
        await WaitForAsync(b, 2);
    }

    /// <summary>The receiver looks every few seconds what its rules say.</summary>
    private static async Task WaitForAsync(Site site, int points)
    {
        while ((await site.ListAsync()).Count < points)
        {
            site.World.Time.Advance(TimeSpan.FromSeconds(2));
            await Task.Delay(TimeSpan.FromMilliseconds(20), TimeProvider.System, World.Token);
        }
    }
}
