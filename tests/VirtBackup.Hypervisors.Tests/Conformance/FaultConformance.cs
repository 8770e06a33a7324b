using VirtBackup.Core;

namespace VirtBackup.Hypervisors.Tests.Conformance;

/// <summary>
/// What every <see cref="IHypervisor"/> must survive: its process killed, its caller's patience at an end, its server's answers
/// lost, at every single call. Needs a server whose calls can be counted.
/// </summary>
public abstract class FaultConformance : TrackingConformance
{
    /// <summary>More calls than any run makes.</summary>
    private const int CallsMax = 400;

    /// <summary>Every trouble with every end, and with every outcome that goes with the end.</summary>
    public static TheoryData<Trouble, End, bool> Troubles
    {
        get
        {
            var data = new TheoryData<Trouble, End, bool>();
            foreach (var trouble in Enum.GetValues<Trouble>())
            {
                data.Add(trouble, End.Commit, true);
                data.Add(trouble, End.Abandon, false);
                data.Add(trouble, End.Detach, true);
                data.Add(trouble, End.Detach, false);
            }
            return data;
        }
    }

    protected abstract ServerMachine StartServer();

    protected sealed override Task<TrackingMachine> StartTrackingAsync() => Task.FromResult<TrackingMachine>(StartServer());

    [Theory]
    [MemberData(nameof(Troubles))]
    public async Task Trouble_at_any_call_loses_nothing_and_leaves_nothing_after_the_next_settlement(Trouble trouble, End end, bool isCommitted)
    {
        for (var at = 1; ; at++)
        {
            Assert.True(at < CallsMax);
            await using var machine = StartServer();
            await machine.MakeForeignAsync();
            var foreign = await machine.DescribeForeignAsync();
            var book = new PointBook(machine);
            await book.BackUpAsync(machine.Connect());
            var isOver = await FaultTrial.RunAsync(machine, book, trouble, at, end, isCommitted);
            Assert.Equal(foreign, await machine.DescribeForeignAsync());
            if (isOver)
            {
                break;
            }
        }
    }

    [Theory]
    [InlineData(Trouble.Refused)]
    [InlineData(Trouble.AnswerLost)]
    [InlineData(Trouble.Cancelled)]
    public async Task A_capture_that_cannot_begin_leaves_nothing_at_once(Trouble trouble)
    {
        for (var at = 1; ; at++)
        {
            Assert.True(at < CallsMax);
            await using var machine = StartServer();
            var book = new PointBook(machine);
            var made = await book.BackUpAsync(machine.Connect());
            var basis = await book.SettleAsync(machine.Connect());
            var (link, cancel) = FaultTrial.LinkWith(trouble, at);
            using var _ = cancel;
            try
            {
                await using var capture = await machine.Connect(link).BeginCaptureAsync(book.Request(basis), cancel.Token);
                return;
            }
            catch (Exception failure) when (failure is FaultException or OperationCanceledException)
            {
                await machine.RequireTidyAsync();
                await machine.RequireTrackedAsync(book, made.Point);
            }
        }
    }

    [Theory]
    [InlineData(Trouble.Refused)]
    [InlineData(Trouble.AnswerLost)]
    [InlineData(Trouble.Cancelled)]
    public async Task A_restore_that_fails_leaves_nothing(Trouble trouble)
    {
        await using var machine = StartServer();
        var book = new PointBook(machine);
        var request = book.Request(null);
        await using var capture = await machine.Connect().BeginCaptureAsync(request, default);
        await book.ReadAsync(capture, request);
        await capture.AbandonAsync(default);
        for (var at = 1; ; at++)
        {
            Assert.True(at < CallsMax);
            var (link, cancel) = FaultTrial.LinkWith(trouble, at);
            using var _ = cancel;
            var driver = machine.Connect(link);
            var wanted = new RestoreRequest(machine.Id, request.Point, driver.Kind, capture.Configuration,
                [.. capture.Disks.Select(disk => new RestoreDisk(disk.Disk.Id, disk.Disk.Name, disk.Disk.LengthBytes, disk.Disk.Format, disk.Disk.LengthBytes))],
                machine.NewRestoreFolder(), $"restored-{at}") { Start = false };
            try
            {
                await using var restore = await driver.BeginRestoreAsync(wanted, cancel.Token);
                foreach (var disk in restore.Disks)
                {
                    await disk.WriteAsync(512, book.ContentOf(request.Point, disk.Disk.Id).AsMemory(512, 1024), cancel.Token);
                }
                await restore.CompleteAsync(cancel.Token);
                Assert.True(machine.HasRestored(wanted.Folder));
                return;
            }
            catch (Exception failure) when (failure is FaultException or OperationCanceledException)
            {
                Assert.False(machine.HasRestored(wanted.Folder));
            }
        }
    }
}
