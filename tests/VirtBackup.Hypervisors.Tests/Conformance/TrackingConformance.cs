using VirtBackup.Core;

namespace VirtBackup.Hypervisors.Tests.Conformance;

/// <summary>What every <see cref="IHypervisor"/> of a platform that tracks changes must do besides.</summary>
public abstract class TrackingConformance : HypervisorConformance
{
    /// <summary>What becomes of a run.</summary>
    public enum Outcome
    {
        Committed,
        /// <summary>The point is durable; the agent died before it said so to the driver.</summary>
        CommittedUnreleased,
        DetachedCommitted,
        DetachedLost,
        Abandoned,
        Disposed,
        /// <summary>The agent died after reading; there is no point.</summary>
        Dropped,
        /// <summary>The agent died right after the cut and remembers nothing.</summary>
        DroppedEarly,
    }

    protected abstract Task<TrackingMachine> StartTrackingAsync();

    /// <summary>What the driver lets be read of a disk that yields changes only.</summary>
    protected virtual ReadReach Reach => ReadReach.Everything;

    protected sealed override async Task<ConformanceMachine> StartAsync() => await StartTrackingAsync();

    /// <summary>Orders of outcomes to be tried, each on a machine of its own.</summary>
    protected virtual IEnumerable<Outcome[]> Histories()
    {
        var all = Enum.GetValues<Outcome>();
        return from first in all from second in all select new[] { first, second };
    }

    [Fact]
    public async Task Increments_hold_exactly_what_changed_before_their_cut()
    {
        await using var machine = await StartTrackingAsync();
        var (book, random) = (new PointBook(machine), new Random(1));
        var last = await book.BackUpAsync(machine.Connect(), () => machine.ScribbleAsync(random));
        for (var i = 0; i < 4; i++)
        {
            await machine.ScribbleAsync(random);
            var next = await book.BackUpAsync(machine.Connect(), () => machine.ScribbleAsync(random));
            Assert.Equal(last.Point, next.Base);
            Assert.All(next.Disks, disk => Assert.True(disk.ChangedOnly && disk.Reason == "changed blocks only" && disk.Bytes > 0));
            await machine.RequireTrackedAsync(book, next.Point);
            last = next;
        }
        await book.BackUpAsync(machine.Connect());
        var still = await book.BackUpAsync(machine.Connect());
        Assert.All(still.Disks, disk => Assert.Equal(0, disk.Bytes));
        await RequireReachAsync(machine, book, random);
        await machine.RequireTidyAsync();
    }

    // What is granted beyond the changes, for an audit, is as it was at the cut.
    private async Task RequireReachAsync(TrackingMachine machine, PointBook book, Random random)
    {
        await machine.ScribbleAsync(random);
        var reference = await machine.ReadAllAsync();
        await using var capture = await machine.Connect().BeginCaptureAsync(book.Request(await book.SettleAsync(machine.Connect())), default);
        await machine.ScribbleAsync(random);
        foreach (var disk in capture.Disks)
        {
            Assert.Equal((true, Reach), (disk.ChangedOnly, disk.Reach));
            // An audit reads before the run does, and a stream has no way back.
            Assert.True(!disk.SequentialOnly || disk.Reach == ReadReach.ListedExtents);
            if (disk.Reach == ReadReach.Everything)
            {
                Assert.Equal(reference[disk.Disk.Name], await ReadWholeAsync(disk));
            }
        }
        await capture.AbandonAsync(default);
    }

    [Fact]
    public async Task However_runs_end_the_next_one_misses_nothing_and_reads_no_more_than_it_must()
    {
        foreach (var history in Histories())
        {
            await using var machine = await StartTrackingAsync();
            await machine.MakeForeignAsync();
            var foreign = await machine.DescribeForeignAsync();
            var (book, random) = (new PointBook(machine), new Random(2));
            foreach (var outcome in history)
            {
                await RunAsync(machine, book, outcome, random);
            }
            var newest = book.NewestCommitted;
            var made = await book.BackUpAsync(machine.Connect());
            Assert.True(newest == made.Base, $"After {string.Join(", ", history)} the base was {made.Base}, not {newest}.");
            Assert.All(made.Disks, disk => Assert.True(disk.ChangedOnly == newest is not null, $"After {string.Join(", ", history)}: {disk.Reason}"));
            await machine.RequireTrackedAsync(book, made.Point);
            await machine.RequireTidyAsync();
            Assert.Equal(foreign, await machine.DescribeForeignAsync());
        }
    }

    [Fact]
    public async Task Where_tracking_was_lost_all_is_read_once()
    {
        await using var machine = await StartTrackingAsync();
        var (book, random) = (new PointBook(machine), new Random(3));
        await book.BackUpAsync(machine.Connect());
        await machine.ScribbleAsync(random);
        await machine.LoseTrackingAsync();
        await machine.ScribbleAsync(random);
        var made = await book.BackUpAsync(machine.Connect());
        Assert.All(made.Disks, disk => Assert.True(!disk.ChangedOnly && disk.Reason.Contains("read in full", StringComparison.Ordinal), disk.Reason));
        await machine.ScribbleAsync(random);
        Assert.All((await book.BackUpAsync(machine.Connect())).Disks, disk => Assert.True(disk.ChangedOnly, disk.Reason));
    }

    [Fact]
    public async Task A_disk_that_was_added_grown_or_left_out_is_read_in_full_and_only_that_one()
    {
        await using var machine = await StartTrackingAsync();
        var (book, random) = (new PointBook(machine), new Random(4));
        await book.BackUpAsync(machine.Connect());
        var content = new byte[300 << 10];
        random.NextBytes(content);

        var added = await machine.AddDiskAsync(content);
        await machine.ScribbleAsync(random);
        RequireFull(await book.BackUpAsync(machine.Connect()), added);
        await machine.ScribbleAsync(random);
        RequireFull(await book.BackUpAsync(machine.Connect()));

        var grown = machine.Disks[0];
        await machine.GrowDiskAsync(grown, (await machine.ReadAsync(grown)).Length + (256 << 10));
        await machine.ScribbleAsync(random);
        RequireFull(await book.BackUpAsync(machine.Connect()), grown);

        await machine.RemoveDiskAsync(added);
        await machine.ScribbleAsync(random);
        var without = await book.BackUpAsync(machine.Connect());
        Assert.DoesNotContain(without.Disks, disk => disk.Name == added);
        RequireFull(without);

        var leftOut = machine.Disks[1];
        RequireFull(await book.BackUpAsync(machine.Connect(), null, false, leftOut));
        await machine.ScribbleAsync(random);
        RequireFull(await book.BackUpAsync(machine.Connect()), leftOut);
    }

    [Fact]
    public async Task A_base_that_is_not_tracked_costs_a_full_read()
    {
        await using var machine = await StartTrackingAsync();
        var book = new PointBook(machine);
        await book.BackUpAsync(machine.Connect());
        await book.SettleAsync(machine.Connect());
        var request = book.Request(null) with { Base = PointBook.NewPoint(), BaseTokens = new Dictionary<Id16, string>() };
        await using var capture = await machine.Connect().BeginCaptureAsync(request, default);
        Assert.All(capture.Disks, disk => Assert.False(disk.ChangedOnly));
        await capture.AbandonAsync(default);
        RequireFull(await book.BackUpAsync(machine.Connect()));
    }

    [Fact]
    public async Task A_full_read_on_request_ends_the_tracking_since_the_point_before()
    {
        await using var machine = await StartTrackingAsync();
        var (book, random) = (new PointBook(machine), new Random(5));
        await book.BackUpAsync(machine.Connect());
        await machine.ScribbleAsync(random);
        var full = await book.BackUpAsync(machine.Connect(), full: true);
        Assert.All(full.Disks, disk => Assert.False(disk.ChangedOnly));
        await machine.ScribbleAsync(random);
        var next = await book.BackUpAsync(machine.Connect());
        Assert.Equal(full.Point, next.Base);
        RequireFull(next);
    }

    [Fact]
    public async Task A_machine_that_still_carries_a_capture_is_refused_until_it_is_settled()
    {
        await using var machine = await StartTrackingAsync();
        var book = new PointBook(machine);
        _ = await machine.Connect().BeginCaptureAsync(book.Request(null), default);
        var fault = await Assert.ThrowsAsync<FaultException>(async () => await machine.Connect().BeginCaptureAsync(book.Request(null), default));
        Assert.Equal(FaultReason.FailedPrecondition, fault.Reason);
        Assert.Null(await book.SettleAsync(machine.Connect()));
        await machine.RequireTidyAsync();
        await book.BackUpAsync(machine.Connect());
    }

    [Fact]
    public async Task A_plan_of_an_increment_says_that_it_is_one()
    {
        await using var machine = await StartTrackingAsync();
        var (book, random) = (new PointBook(machine), new Random(6));
        var made = await book.BackUpAsync(machine.Connect());
        await machine.ScribbleAsync(random);
        var plan = await machine.Connect().PlanCaptureAsync(book.Request(made.Point), default);
        Assert.All(plan.Disks.Where(disk => disk.Disk.SkipReason is null), disk => Assert.True(disk.ChangedOnly, disk.Reason));
        await machine.RequireTrackedAsync(book, made.Point);
    }

    private static void RequireFull(MadePoint made, params string[] full) =>
        Assert.All(made.Disks, disk => Assert.True(disk.ChangedOnly != full.Contains(disk.Name), $"{disk.Name}: {disk.Reason}"));

    private static async Task RunAsync(TrackingMachine machine, PointBook book, Outcome outcome, Random random)
    {
        var driver = machine.Connect();
        var newest = book.NewestCommitted;
        Assert.Equal(newest, await book.SettleAsync(driver));
        var request = book.Request(newest);
        var reference = await machine.ReadAllAsync();
        var capture = await driver.BeginCaptureAsync(request, default);
        await machine.ScribbleAsync(random);
        if (outcome != Outcome.DroppedEarly)
        {
            await book.ReadAsync(capture, request);
            book.RequireEqual(request.Point, reference);
        }
        if (outcome is Outcome.Committed or Outcome.CommittedUnreleased or Outcome.DetachedCommitted)
        {
            book.Committed.Add(request.Point);
        }
        if (outcome is not (Outcome.CommittedUnreleased or Outcome.Dropped or Outcome.DroppedEarly))
        {
            await EndAsync(capture, outcome switch
            {
                Outcome.Committed => End.Commit,
                Outcome.Abandoned => End.Abandon,
                Outcome.Disposed => End.Dispose,
                _ => End.Detach,
            });
        }
        await machine.ScribbleAsync(random);
    }
}
