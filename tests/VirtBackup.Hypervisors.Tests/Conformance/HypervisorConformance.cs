using VirtBackup.Core;

namespace VirtBackup.Hypervisors.Tests.Conformance;

/// <summary>What every <see cref="IHypervisor"/> must do, whatever its platform; each driver runs it all.</summary>
public abstract partial class HypervisorConformance
{
    /// <summary>A machine with at least two disks that hold something, under the name <see cref="ConformanceMachine.Name"/>.</summary>
    protected abstract Task<ConformanceMachine> StartAsync();

    /// <summary>Ways to end a capture.</summary>
    public enum End
    {
        Commit,
        Abandon,
        Detach,
        Dispose,
    }

    [Fact]
    public async Task A_machine_is_listed_with_its_disks_and_why_any_is_skipped()
    {
        await using var machine = await StartAsync();
        var listed = Assert.Single(await machine.Connect().ListMachinesAsync(default));
        Assert.Equal((machine.Id, ConformanceMachine.Name), (listed.Id, listed.Name));
        Assert.Null(listed.Problem);
        Assert.Equal(machine.Disks.Concat(machine.SkippedDisks).Order(), listed.Disks.Select(disk => disk.Name).Order());
        Assert.Equal(listed.Disks.Count, listed.Disks.Select(disk => disk.Id).Distinct().Count());
        foreach (var disk in listed.Disks)
        {
            Assert.Equal(machine.SkippedDisks.Contains(disk.Name), disk.SkipReason is { Length: > 0 });
            Assert.True(disk.SkipReason is not null || disk.LengthBytes == (await machine.ReadAsync(disk.Name)).Length);
        }
        Assert.Equal(listed.Disks, (await machine.Connect().ListMachinesAsync(default))[0].Disks);
    }

    [Fact]
    public async Task A_machine_that_cannot_be_reached_is_listed_with_the_problem()
    {
        await using var machine = await StartAsync();
        await machine.BreakAsync();
        var listed = Assert.Single(await machine.Connect().ListMachinesAsync(default));
        Assert.Equal((machine.Id, ConformanceMachine.Name), (listed.Id, listed.Name));
        Assert.NotEmpty(listed.Problem!);
        await machine.Connect().ReleaseGuestsAsync(default);
        await Assert.ThrowsAsync<FaultException>(async () => await machine.Connect().BeginCaptureAsync(new PointBook(machine).Request(null), default));
    }

    [Fact]
    public async Task A_machine_that_is_not_configured_is_not_found()
    {
        await using var machine = await StartAsync();
        var request = new PointBook(machine).Request(null) with { Machine = new Id16(17) };
        Assert.Equal(FaultReason.NotFound, (await Assert.ThrowsAsync<FaultException>(async () => await machine.Connect().PlanCaptureAsync(request, default))).Reason);
        Assert.Equal(FaultReason.NotFound, (await Assert.ThrowsAsync<FaultException>(async () => await machine.Connect().BeginCaptureAsync(request, default))).Reason);
    }

    [Fact]
    public async Task A_plan_names_every_disk_and_touches_nothing()
    {
        await using var machine = await StartAsync();
        var book = new PointBook(machine);
        var plan = await machine.Connect().PlanCaptureAsync(book.Request(null, machine.Disks[0]), default);
        Assert.Equal(machine.Disks.Concat(machine.SkippedDisks).Order(), plan.Disks.Select(disk => disk.Disk.Name).Order());
        Assert.All(plan.Disks, disk => Assert.True(!disk.ChangedOnly && disk.Reason.Length > 0));
        Assert.Equal(machine.SkippedDisks.Append(machine.Disks[0]).Order(), plan.Disks.Where(disk => disk.Disk.SkipReason is not null).Select(disk => disk.Disk.Name).Order());
        Assert.All(plan.Disks.Where(disk => disk.Disk.SkipReason is not null), disk => Assert.Equal(0, disk.ReadBytes));
        await machine.RequireTidyAsync();
        Assert.Empty(await book.ListAsync(machine.Connect()));
    }

    [Fact]
    public async Task A_full_capture_holds_every_byte()
    {
        await using var machine = await StartAsync();
        var book = new PointBook(machine);
        var made = await book.BackUpAsync(machine.Connect());
        Assert.Equal(machine.Disks.Order(), made.Disks.Select(disk => disk.Name).Order());
        Assert.All(made.Disks, disk => Assert.True(!disk.ChangedOnly && disk.Reason.Length > 0));
        await machine.RequireTidyAsync();
    }

    [Fact]
    public async Task A_capture_says_what_it_holds_and_what_it_left_out()
    {
        await using var machine = await StartAsync();
        var book = new PointBook(machine);
        await using var capture = await machine.Connect().BeginCaptureAsync(book.Request(null, machine.Disks[1]), default);
        Assert.Equal(machine.Disks.Except([machine.Disks[1]]).Order(), capture.Disks.Select(disk => disk.Disk.Name).Order());
        Assert.Equal(machine.SkippedDisks.Append(machine.Disks[1]).Order(), capture.SkippedDisks.Select(disk => disk.Name).Order());
        Assert.All(capture.SkippedDisks, disk => Assert.NotEmpty(disk.SkipReason!));
        Assert.Equal(ConformanceMachine.Name, capture.Configuration.Name);
        Assert.True(Enum.IsDefined(capture.Consistency) && capture.ConsistencyDetail.Length > 0);
        Assert.All(capture.Disks, disk => Assert.True(disk.BaseToken.Length <= 1024));
    }

    [Fact]
    public async Task Extents_are_the_same_each_time_and_can_be_listed_while_a_disk_is_read()
    {
        await using var machine = await StartAsync();
        var book = new PointBook(machine);
        await using var capture = await machine.Connect().BeginCaptureAsync(book.Request(null), default);
        foreach (var disk in capture.Disks)
        {
            var first = await disk.ListExtentsAsync(default).ToListAsync();
            var reading = ReadWholeAsync(disk);
            Assert.Equal(first, await disk.ListExtentsAsync(default).ToListAsync());
            // What is not listed is zero, and can be read all the same.
            var whole = await reading;
            Assert.Equal(await machine.ReadAsync(disk.Disk.Name), whole);
            long end = 0;
            foreach (var extent in first.Append(new ByteRange(whole.Length, 0)))
            {
                Assert.False(whole.AsSpan((int)end, (int)(extent.Offset - end)).ContainsAnyExcept((byte)0));
                end = extent.End;
            }
        }
    }

    [Theory]
    [InlineData(End.Commit)]
    [InlineData(End.Abandon)]
    [InlineData(End.Detach)]
    [InlineData(End.Dispose)]
    public async Task An_end_may_be_repeated_and_takes_the_view_away(End end)
    {
        await using var machine = await StartAsync();
        var book = new PointBook(machine);
        var request = book.Request(null);
        var capture = await machine.Connect().BeginCaptureAsync(request, default);
        await book.ReadAsync(capture, request);
        for (var i = 0; i < 2; i++)
        {
            await EndAsync(capture, end);
            await machine.RequireTidyAsync();
        }
        await capture.DisposeAsync();
        await machine.RequireTidyAsync();
        if (end is End.Abandon or End.Dispose)
        {
            Assert.Null(await book.SettleAsync(machine.Connect()));
        }
        await book.BackUpAsync(machine.Connect());
    }

    [Fact]
    public async Task A_capture_that_is_cancelled_before_it_begins_leaves_nothing()
    {
        await using var machine = await StartAsync();
        var book = new PointBook(machine);
        await Assert.ThrowsAnyAsync<OperationCanceledException>(async () => await machine.Connect().BeginCaptureAsync(book.Request(null), new CancellationToken(canceled: true)));
        await machine.RequireTidyAsync();
        Assert.Empty(await book.ListAsync(machine.Connect()));
    }

    [Fact]
    public async Task Settling_what_is_settled_changes_nothing()
    {
        await using var machine = await StartAsync();
        var book = new PointBook(machine);
        Assert.Null(await book.SettleAsync(machine.Connect()));
        await book.BackUpAsync(machine.Connect());
        var (listed, settled) = (await book.ListAsync(machine.Connect()), await book.SettleAsync(machine.Connect()));
        Assert.Equal(settled, await book.SettleAsync(machine.Connect()));
        Assert.Equal(listed, await book.ListAsync(machine.Connect()));
    }

    protected static async Task EndAsync(ICapture capture, End end)
    {
        ArgumentNullException.ThrowIfNull(capture);
        switch (end)
        {
            case End.Commit:
                await capture.CommitAsync(default);
                break;
            case End.Abandon:
                await capture.AbandonAsync(default);
                break;
            case End.Detach:
                await capture.DetachAsync(default);
                break;
            default:
                await capture.DisposeAsync();
                break;
        }
    }

    protected static async Task<byte[]> ReadWholeAsync(ICapturedDisk disk)
    {
        ArgumentNullException.ThrowIfNull(disk);
        const int Step = 100_352;
        var bytes = new byte[disk.Disk.LengthBytes];
        for (var offset = 0; offset < bytes.Length; offset += Step)
        {
            await disk.ReadAsync(offset, bytes.AsMemory(offset, Math.Min(Step, bytes.Length - offset)), default);
        }
        return bytes;
    }
}
