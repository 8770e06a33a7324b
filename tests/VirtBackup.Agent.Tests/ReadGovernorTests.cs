using VirtBackup.Agent.Guests;

namespace VirtBackup.Agent.Tests;

/// <summary>Reading gives way to the guest's writes, comes back, and never stops altogether.</summary>
public sealed class ReadGovernorTests
{
    private const double Fast = 200 << 20;
    private static readonly ImpactBudget Budget = new(2) { Free = TimeSpan.FromMilliseconds(1), ReadBytesPerSecondMin = 4 << 20 };

    /// <summary>What is read when nothing but the limit holds it back.</summary>
    private static double PaceOf(ReadGovernor governor) => governor.BytesPerSecondMax == 0 ? Fast : Math.Min(Fast, governor.BytesPerSecondMax);

    private static long Ns(double milliseconds, long operations) => (long)(milliseconds * 1e6 * operations);

    [Fact]
    public void The_budget_is_the_baseline_s_and_never_below_what_is_free()
    {
        Assert.Equal(TimeSpan.FromMilliseconds(6), new ReadGovernor(Budget, TimeSpan.FromMilliseconds(3)).Allowed);
        Assert.Equal(TimeSpan.FromMilliseconds(1), new ReadGovernor(Budget, TimeSpan.FromMilliseconds(0.1)).Allowed);
        Assert.Equal(TimeSpan.FromMilliseconds(10), new ReadGovernor(Budget, null).Allowed);
    }

    [Fact]
    public void One_slow_moment_changes_nothing_two_halve_and_a_very_slow_one_is_enough()
    {
        var governor = new ReadGovernor(Budget, TimeSpan.FromMilliseconds(3));
        governor.Judge(20, Ns(7, 20), Fast);
        governor.Judge(20, Ns(3, 20), Fast);
        governor.Judge(20, Ns(7, 20), Fast);
        Assert.Equal(0, governor.BytesPerSecondMax);
        governor.Judge(20, Ns(7, 20), Fast);
        Assert.Equal((long)Fast / 2, governor.BytesPerSecondMax);
        governor.Judge(20, Ns(30, 20), Fast / 2);
        Assert.Equal((long)Fast / 4, governor.BytesPerSecondMax);
    }

    [Fact]
    public void The_floor_holds_and_the_limit_goes_when_the_guest_fares_well_again()
    {
        var governor = new ReadGovernor(Budget, TimeSpan.FromMilliseconds(3));
        for (var i = 0; i < 100; i++)
        {
            governor.Judge(20, Ns(50, 20), PaceOf(governor));
        }
        Assert.Equal(Budget.ReadBytesPerSecondMin, governor.BytesPerSecondMax);
        // Between the good share and the whole budget nothing moves.
        for (var i = 0; i < 10; i++)
        {
            governor.Judge(20, Ns(5.5, 20), PaceOf(governor));
        }
        Assert.Equal(Budget.ReadBytesPerSecondMin, governor.BytesPerSecondMax);
        var steps = 0;
        while (governor.BytesPerSecondMax > 0)
        {
            governor.Judge(20, Ns(2, 20), PaceOf(governor));
            Assert.InRange(++steps, 1, 200);
        }
        Assert.InRange(steps, 30, 200);
    }

    [Fact]
    public void Few_operations_are_judged_together_and_an_idle_guest_holds_nothing_back()
    {
        var governor = new ReadGovernor(Budget, TimeSpan.FromMilliseconds(3));
        for (var i = 0; i < 6; i++)
        {
            governor.Judge(1, Ns(7, 1), Fast);
        }
        Assert.Equal(0, governor.BytesPerSecondMax);
        governor.Judge(1, Ns(7, 1), Fast);
        governor.Judge(1, Ns(7, 1), Fast);
        Assert.Equal((long)Fast / 2, governor.BytesPerSecondMax);
        for (var i = 0; i < 100; i++)
        {
            governor.Judge(0, 0, PaceOf(governor));
        }
        Assert.Equal(0, governor.BytesPerSecondMax);
    }
}
