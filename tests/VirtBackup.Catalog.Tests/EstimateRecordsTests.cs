using VirtBackup.Catalog.Estimates;
using VirtBackup.Core;
using VirtBackup.Database;

namespace VirtBackup.Catalog.Tests;

public sealed class EstimateRecordsTests : IAsyncDisposable
{
    private const string Path = "host → /srv (ext4 on /dev/sda1), image, raw";
    private static int _count;

    private readonly SqliteDatabase _database = SqliteDatabase.OpenInMemory($"estimates {Interlocked.Increment(ref _count)}", CatalogSchema.Migrations);
    private readonly EstimateRecords _records;

    public EstimateRecordsTests() => _records = new CatalogDatabase(_database).Estimates;

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    [Fact]
    public async Task An_estimate_is_scored_once_and_listed_with_its_path()
    {
        var row = Row(1);
        await _records.AddAsync(row, Token);
        await _records.AddAsync(row with { P50Seconds = 99 }, Token);
        Assert.Equal(row, await _records.FindAsync(new Id16(1), Token));
        Assert.Empty(await _records.ListScoredAsync(Path, 10, Token));
        await _records.ScoreAsync(new Id16(1), 12.25, 1000, Token);
        await _records.ScoreAsync(new Id16(1), 1, 1, Token);
        await _records.WithdrawAsync(new Id16(1), Token);
        Assert.Equal(row with { ActualSeconds = 12.25, WireBytes = 1000 }, Assert.Single(await _records.ListScoredAsync(Path, 10, Token)));
        Assert.Empty(await _records.ListScoredAsync("another path", 10, Token));
        await _records.AddAsync(Row(2), Token);
        await _records.WithdrawAsync(new Id16(2), Token);
        Assert.Null(await _records.FindAsync(new Id16(2), Token));
    }

    [Fact]
    public async Task The_newest_come_first_and_old_ones_go()
    {
        for (var i = 1; i <= EstimateRecords.CountMax + 5; i++)
        {
            await _records.AddAsync(Row(i), Token);
            await _records.ScoreAsync(new Id16((UInt128)i), 10, 0, Token);
        }
        var rows = await _records.ListScoredAsync(Path, 1000, Token);
        Assert.Equal(EstimateRecords.CountMax, rows.Count);
        Assert.Equal(new Id16(EstimateRecords.CountMax + 5), rows[0].JobId);
    }

    [Fact]
    public void A_record_is_of_the_last_fifty()
    {
        var rows = Enumerable.Range(0, 60).Select(i => Row(i + 1) with { ActualSeconds = i < 4 ? 30 : i < 50 ? 11 : 1000 }).ToList();
        var record = EstimateRecord.Of(rows);
        Assert.Equal((50, 0, 46), (record.Scored, record.WithinP50, record.WithinP90));
        Assert.Equal(0.1, record.MedianError, 6);
        Assert.Equal(default, EstimateRecord.Of([Row(1)]));
    }

    public ValueTask DisposeAsync() => _database.DisposeAsync();

    private static EstimateRow Row(int number) => new()
    {
        JobId = new Id16((UInt128)number), PointId = new Id16(7), Path = Path, MadeMs = number, DataBytes = 1 << 20, Jobs = 2, SampleBytes = 4096, SampleWireBytes = 2048, SampleSeconds = 0.5,
        P50Seconds = 10, P90Seconds = 20.5, JudgedBy = number,
    };
}
