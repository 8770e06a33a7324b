using VirtBackup.Catalog.Signals;
using VirtBackup.Core;
using VirtBackup.Database;

namespace VirtBackup.Catalog.Tests;

public sealed class RunRecordsTests : IAsyncDisposable
{
    private static readonly Id16 Machine = new(1);
    private static readonly Id16 Other = new(2);

    private static int _count;

    private readonly SqliteDatabase _database = SqliteDatabase.OpenInMemory($"runs {Interlocked.Increment(ref _count)}", CatalogSchema.Migrations);
    private readonly RunRecords _records;

    public RunRecordsTests() => _records = new CatalogDatabase(_database).Runs;

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    [Fact]
    public async Task What_unfinished_runs_sent_counts_until_one_is_finished()
    {
        await _records.AddUnfinishedAsync(Run(1) with { NewBytes = 10, StoredBytes = 5 }, Token);
        await _records.AddUnfinishedAsync(Run(1) with { NewBytes = 20, StoredBytes = 6 }, Token);
        await _records.AddUnfinishedAsync(Run(2) with { NewBytes = 1, StoredBytes = 1 }, Token);
        await _records.AddUnfinishedAsync(Run(3) with { VmId = Other, NewBytes = 100 }, Token);
        Assert.Equal((31, 12), await _records.SumUnfinishedAsync(Machine, Token));
        Assert.Empty(await _records.ListAsync(Machine, 10, Token));
        // Judged, but not committed: it may have to be judged again.
        await _records.SaveAsync(Run(2) with { Verdict = RunVerdict.Abnormal, NewBytes = 31 }, isCommitted: false, Token);
        Assert.Equal((30, 11), await _records.SumUnfinishedAsync(Machine, Token));
        await _records.SaveAsync(Run(2) with { NewBytes = 32 }, isCommitted: true, Token);
        Assert.Equal((0, 0), await _records.SumUnfinishedAsync(Machine, Token));
        Assert.Equal((100, 0), await _records.SumUnfinishedAsync(Other, Token));
        Assert.Equal(Run(2) with { NewBytes = 32 }, Assert.Single(await _records.ListAsync(Machine, 10, Token)));
        // What comes late for a finished run changes nothing.
        await _records.AddUnfinishedAsync(Run(2) with { NewBytes = 7 }, Token);
        Assert.Equal(32, Assert.Single(await _records.ListAsync(Machine, 10, Token)).NewBytes);
    }

    [Fact]
    public async Task Runs_are_listed_newest_first_and_accepted_for_one_machine()
    {
        var flagged = Run(2) with
        {
            Verdict = RunVerdict.Abnormal, LogicalBytes = 9, GrownBytes = 8, NewBytes = 7, StoredBytes = 6, Cut = "c", IsComparable = true, UsualNew = 5, UsualStored = 4, IsHeld = true,
        };
        await _records.SaveAsync(Run(1), isCommitted: true, Token);
        await _records.SaveAsync(flagged, isCommitted: true, Token);
        await _records.SaveAsync(Run(3) with { VmId = Other, Verdict = RunVerdict.Abnormal }, isCommitted: true, Token);
        Assert.Equal([flagged, Run(1)], await _records.ListAsync(Machine, 10, Token));
        Assert.Equal([flagged], await _records.ListAbnormalAsync(Machine, Token));
        Assert.Equal(2, (await _records.ListAbnormalAsync(null, Token)).Count);
        Assert.Equal(1, await _records.AcceptAsync(Machine, Token));
        Assert.Equal(0, await _records.AcceptAsync(Machine, Token));
        Assert.Equal(flagged with { Verdict = RunVerdict.Accepted }, (await _records.ListAsync(Machine, 1, Token))[0]);
        Assert.Equal(Other, Assert.Single(await _records.ListAbnormalAsync(null, Token)).VmId);
    }

    [Fact]
    public async Task Old_runs_go_and_abnormal_ones_stay()
    {
        await _records.SaveAsync(Run(1) with { Verdict = RunVerdict.Abnormal }, isCommitted: true, Token);
        for (var i = 2; i <= RunRecords.CountMax + 5; i++)
        {
            await _records.SaveAsync(Run(i), isCommitted: true, Token);
        }
        var left = await _records.ListAsync(Machine, int.MaxValue, Token);
        Assert.Equal(RunRecords.CountMax + 1, left.Count);
        Assert.Equal((RunRecords.CountMax + 5, 6, 1), (left[0].EndedMs, left[^2].EndedMs, left[^1].EndedMs));
    }

    public async ValueTask DisposeAsync() => await _database.DisposeAsync();

    private static RunRow Run(int number) => new() { PointId = new Id16((ulong)number), VmId = Machine, EndedMs = number };
}
