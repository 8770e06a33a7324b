using VirtBackup.Core;
using VirtBackup.Database;

namespace VirtBackup.Catalog.Tests;

public sealed class GroupRecordsTests : IAsyncDisposable
{
    private static int _count;

    private readonly SqliteDatabase _database = SqliteDatabase.OpenInMemory($"groups {Interlocked.Increment(ref _count)}", CatalogSchema.Migrations);
    private readonly CatalogDatabase _catalog;

    public GroupRecordsTests() => _catalog = new CatalogDatabase(_database);

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    [Fact]
    public async Task A_group_that_is_out_of_bounds_is_not_made()
    {
        foreach (var group in new[]
        {
            new GroupRow("-a", 1000, []), new GroupRow("a", 0, []), new GroupRow("a", GroupRecords.SkewBoundMsMax + 1, []),
            new GroupRow("a", 1000, [.. Enumerable.Range(1, GroupRecords.MembersMax + 1).Select(static number => new Id16((UInt128)number))]),
        })
        {
            Assert.Equal(FaultReason.InvalidArgument, (await Assert.ThrowsAsync<FaultException>(async () => await _catalog.Groups.AddAsync(group, 1, Token))).Reason);
        }
        Assert.Empty(await _catalog.Groups.ListAsync(Token));
        var made = await _catalog.Groups.AddAsync(new GroupRow("a", 1000, [new Id16(2), new Id16(1), new Id16(2)]), 1, Token);
        Assert.Equal([new Id16(1), new Id16(2)], made.Members);
        Assert.Equal([new Id16(1)], (await _catalog.Groups.ChangeAsync("a", [], [new Id16(2)], null, Token)).Members);
    }

    [Fact]
    public async Task Runs_are_points_when_they_were_cut_and_outlive_their_group()
    {
        await _catalog.Groups.AddAsync(new GroupRow("a", 1000, [new Id16(1)]), 1, Token);
        var (early, late, failed) = (Run(1, 10), Run(2, 20), Run(3, 30) with { Phase = GroupCutPhase.Failed });
        foreach (var run in new[] { late, early, failed, Run(4, 40) with { Phase = GroupCutPhase.Cutting } })
        {
            await _catalog.GroupRuns.SaveAsync(run, Token);
        }
        await _catalog.GroupRuns.SaveAsync(early, Token);
        await _catalog.Groups.DeleteAsync("a", Token);
        Assert.Equal([late.RunId, early.RunId], (await _catalog.GroupRuns.ListMadeAsync("a", 10, Token)).Select(static run => run.RunId));
        Assert.Equal((2, 20L), await _catalog.GroupRuns.SummariseAsync("a", Token));
        Assert.Equal(new Id16(4), Assert.Single(await _catalog.GroupRuns.ListCuttingAsync(Token)).RunId);
        var found = Assert.Single(await _catalog.GroupRuns.FindMadeByRangeAsync(new Id16(2), new Id16(9), 5, Token));
        Assert.Equal((late.SkewUs, late.SkewBoundMs, late.Members.Single()), (found.SkewUs, found.SkewBoundMs, found.Members.Single()));
        Assert.Equal((0, null), await _catalog.GroupRuns.SummariseAsync("b", Token));
    }

    public ValueTask DisposeAsync() => _database.DisposeAsync();

    private static GroupRunRow Run(int id, long cutMs) => new()
    {
        RunId = new Id16((UInt128)id), Group = "a", Phase = GroupCutPhase.Made, StartedMs = id, CutMs = cutMs, SkewUs = id * 7, SkewBoundMs = 1000,
        Members = [new GroupRunMember(new Id16(1), "web", "host", new Id16((UInt128)(100 + id)), new Id16((UInt128)(200 + id)), Held: true)],
    };
}
