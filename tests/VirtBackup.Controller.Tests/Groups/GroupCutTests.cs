using Microsoft.Extensions.Time.Testing;
using VirtBackup.Controller.Groups;
using VirtBackup.Core;
using VirtBackup.Protocol.Agent.V1;

namespace VirtBackup.Controller.Tests.Groups;

public sealed class GroupCutTests
{
    private static readonly Id16 Web = Id16.Create(SystemEntropy.Instance), Data = Id16.Create(SystemEntropy.Instance);
    private readonly FakeTimeProvider _time = new();
    private readonly GroupCutLimits _limits = new();

    [Fact]
    public void Nobody_goes_on_before_all_have_come_and_the_skew_is_from_the_order_to_the_last_answer()
    {
        var cut = New();
        Assert.False(cut.Reach(Web, CutStep.Ready, false));
        Assert.Equal(CutStep.Unspecified, cut.Passed);
        Assert.True(cut.Reach(Data, CutStep.Ready, false));
        foreach (var step in new[] { CutStep.Prepared, CutStep.Frozen, CutStep.Cut })
        {
            Assert.False(cut.Reach(Data, step, false));
            Assert.Equal(step - 1, cut.Passed);
            _time.Advance(TimeSpan.FromMilliseconds(40));
            Assert.True(cut.Reach(Web, step, false));
            Assert.Equal(step, cut.Passed);
        }
        // The last one answered 40 ms after the order to cut; how long they took to freeze does not count.
        Assert.Equal(TimeSpan.FromMilliseconds(40), cut.Skew);
        Assert.True(cut.IsMade);
        _time.Advance(TimeSpan.FromSeconds(9));
        Assert.False(cut.Reach(Web, CutStep.Released, true));
        Assert.False(cut.IsOver);
        Assert.True(cut.Reach(Data, CutStep.Released, false));
        Assert.True(cut.IsOver);
        Assert.Equal((true, false, TimeSpan.FromMilliseconds(40)), (cut.WasHeld(Web), cut.WasHeld(Data), cut.Skew));
    }

    [Fact]
    public void What_is_repeated_or_late_changes_nothing()
    {
        var cut = New();
        PassTo(cut, CutStep.Frozen);
        Assert.False(cut.Reach(Web, CutStep.Ready, false));
        Assert.False(cut.Reach(Web, CutStep.Frozen, false));
        Assert.False(cut.Reach(Id16.Create(SystemEntropy.Instance), CutStep.Cut, true));
        Assert.True(cut.Lose(Data, "its disk is full."));
        Assert.False(cut.Reach(Web, CutStep.Cut, false));
        Assert.False(cut.Lose(Web, "it was taken back."));
        Assert.Equal("data: its disk is full.", cut.Failure);
        Assert.False(cut.IsMade);
    }

    [Theory]
    [InlineData(CutStep.Unspecified)]
    [InlineData(CutStep.Ready)]
    [InlineData(CutStep.Prepared)]
    [InlineData(CutStep.Frozen)]
    public void One_that_fails_before_all_are_cut_ends_it_for_all(CutStep passed)
    {
        var cut = New();
        PassTo(cut, passed);
        Assert.True(cut.Lose(Web, "no space."));
        Assert.True(cut.IsOver);
        Assert.Equal("web: no space.", cut.Failure);
    }

    [Fact]
    public void One_that_gave_up_waiting_tells_for_whom()
    {
        var cut = New();
        PassTo(cut, CutStep.Prepared);
        cut.Reach(Web, CutStep.Frozen, false);
        cut.Lose(Web, "It was let go on.");
        Assert.Equal("web: It was let go on. Waited for: data.", cut.Failure);
    }

    [Theory]
    [InlineData(CutStep.Unspecified, "ready to be cut")]
    [InlineData(CutStep.Ready, "hook")]
    [InlineData(CutStep.Prepared, "frozen")]
    [InlineData(CutStep.Frozen, "cut")]
    public void Every_wait_is_bounded_and_the_late_one_is_named(CutStep passed, string state)
    {
        var cut = New();
        PassTo(cut, passed);
        cut.Reach(Data, passed + 1, false);
        var left = cut.Left;
        _time.Advance(left - TimeSpan.FromMilliseconds(1));
        cut.Expire();
        Assert.False(cut.IsOver);
        _time.Advance(TimeSpan.FromMilliseconds(1));
        Assert.Equal(TimeSpan.Zero, cut.Left);
        cut.Expire();
        Assert.StartsWith("web was not ", cut.Failure, StringComparison.Ordinal);
        Assert.Contains(state, cut.Failure, StringComparison.Ordinal);
    }

    [Fact]
    public void Behind_the_cut_one_that_is_lost_or_silent_was_not_held_and_the_others_were()
    {
        foreach (var silent in new[] { false, true })
        {
            var cut = New();
            PassTo(cut, CutStep.Cut);
            Assert.False(cut.Reach(Web, CutStep.Released, true));
            if (silent)
            {
                _time.Advance(_limits.Released);
                cut.Expire();
            }
            else
            {
                Assert.True(cut.Lose(Data, "killed"));
            }
            Assert.True(cut.IsOver);
            Assert.Equal((null, true, true, false), (cut.Failure, cut.IsMade, cut.WasHeld(Web), cut.WasHeld(Data)));
        }
    }

    [Fact]
    public void One_that_does_not_wait_ends_it()
    {
        var cut = New();
        PassTo(cut, CutStep.Ready);
        cut.Reach(Web, CutStep.Prepared, false);
        Assert.True(cut.Reach(Web, CutStep.Cut, false));
        Assert.Equal("web went on before all were through with the hook before the freeze.", cut.Failure);
    }

    [Theory]
    [InlineData(CutStep.Unspecified, false)]
    [InlineData(CutStep.Ready, true)]
    [InlineData(CutStep.Frozen, true)]
    [InlineData(CutStep.Cut, false)]
    public void A_link_may_break_while_no_guest_is_touched(CutStep passed, bool ends)
    {
        var cut = New();
        PassTo(cut, passed);
        Assert.Equal(ends, cut.Disconnect(Web, "host-1"));
        Assert.Equal(ends, cut.Failure is not null);
    }

    private GroupCut New() => new([(Web, "web"), (Data, "data")], _limits, _time);

    private static void PassTo(GroupCut cut, CutStep passed)
    {
        for (var step = CutStep.Ready; step <= passed; step++)
        {
            cut.Reach(Web, step, false);
            cut.Reach(Data, step, false);
        }
    }
}
