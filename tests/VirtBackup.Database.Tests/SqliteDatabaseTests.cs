using System.Security.Cryptography;
using VirtBackup.Core;

namespace VirtBackup.Database.Tests;

public sealed class SqliteDatabaseTests : IDisposable
{
    private static readonly CancellationToken None = CancellationToken.None;

    private readonly TempFolder _folder = new();

    private string DatabasePath => _folder.File("test.db");

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Values_of_every_type_come_back(bool inMemory)
    {
        var schema = new SchemaMigrations("values", 1, ["CREATE TABLE v(a INTEGER, b TEXT, c BLOB, d BLOB, e BLOB, f BLOB, g TEXT)"]);
        await using var database = inMemory
            ? SqliteDatabase.OpenInMemory("values", schema)
            : SqliteDatabase.Open(DatabasePath, schema);
        var id16 = Id16.Create(SystemEntropy.Instance);
        var id32 = Id32.Read(RandomNumberGenerator.GetBytes(32));
        var changed = await database.WriteAsync(
            c =>
            {
                using var s = c.Prepare("INSERT INTO v VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)");
                return s.Bind(1, long.MinValue).Bind(2, "héllo").Bind(3, id16).Bind(4, id32).Bind(5, [1, 2, 3]).Bind(6, []).Bind(7, (string?)null).Execute();
            },
            None);
        Assert.Equal(1, changed);
        await database.ReadAsync(
            c =>
            {
                using var s = c.Prepare("SELECT * FROM v");
                Assert.True(s.Step());
                Assert.Equal(long.MinValue, s.GetInt64(0));
                Assert.Equal("héllo", s.GetString(1));
                Assert.Equal(id16, s.GetId16(2));
                Assert.Equal(id32, s.GetId32(3));
                Assert.Equal([1, 2, 3], s.GetBytes(4));
                Assert.False(s.IsNull(5));
                Assert.Empty(s.GetBytes(5));
                Assert.True(s.IsNull(6));
                Assert.Null(s.GetString(6));
                Assert.Equal(FaultReason.Corrupt, Assert.Throws<FaultException>(() => s.GetId32(2)).Reason);
                Assert.False(s.Step());
            },
            None);
    }

    [Fact]
    public async Task A_body_that_throws_changes_nothing()
    {
        await using var database = SqliteDatabase.Open(DatabasePath, Schemas.One);
        await Assert.ThrowsAsync<InvalidTimeZoneException>(async () => await database.WriteAsync<int>(
            c =>
            {
                Insert(c, 1);
                throw new InvalidTimeZoneException();
            },
            None));
        Assert.Equal(0, await CountAsync(database));
        await database.WriteAsync(c => Insert(c, 1), None);
        Assert.Equal(1, await CountAsync(database));
    }

    [Fact]
    public async Task Commits_survive_reopening()
    {
        await using (var database = SqliteDatabase.Open(DatabasePath, Schemas.One))
        {
            await database.WriteAsync(c => Insert(c, 42), None);
        }
        await using var again = SqliteDatabase.Open(DatabasePath, Schemas.One, new SqliteOptions { VerifyStructure = true });
        Assert.Equal(1, await CountAsync(again));
    }

    [Fact]
    public async Task A_reader_sees_one_snapshot_while_a_writer_commits()
    {
        await using var database = SqliteDatabase.Open(DatabasePath, Schemas.One);
        await database.WriteAsync(c => Insert(c, 1), None);
        await database.ReadAsync(
            c =>
            {
                Assert.Equal(1, Count(c));
                // File databases read and write on different connections, so a write may finish inside of a read's body.
                database.WriteAsync(w => Insert(w, 2), None).AsTask().GetAwaiter().GetResult();
                Assert.Equal(1, Count(c));
            },
            None);
        Assert.Equal(2, await CountAsync(database));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_read_cannot_change_data(bool inMemory)
    {
        await using var database = inMemory
            ? SqliteDatabase.OpenInMemory("read-only", Schemas.One)
            : SqliteDatabase.Open(DatabasePath, Schemas.One);
        var fault = await Assert.ThrowsAsync<FaultException>(async () => await database.ReadAsync(c => Insert(c, 1), None));
        Assert.Equal(FaultReason.Denied, fault.Reason);
        await database.WriteAsync(c => Insert(c, 1), None);
        Assert.Equal(1, await CountAsync(database));
    }

    [Fact]
    public async Task Writers_run_one_at_a_time_and_lose_nothing()
    {
        await using var database = SqliteDatabase.Open(DatabasePath, Schemas.One, new SqliteOptions { DurableCommits = false });
        await database.WriteAsync(c => Insert(c, 0), None);
        const int Writers = 8;
        const int Rounds = 50;
        await Task.WhenAll(Enumerable.Range(0, Writers).Select(_ => Task.Run(async () =>
        {
            for (var i = 0; i < Rounds; i++)
            {
                await database.WriteAsync(
                    c =>
                    {
                        using var read = c.Prepare("SELECT number FROM item");
                        Assert.True(read.Step());
                        using var write = c.Prepare("UPDATE item SET number = ?1");
                        return write.Bind(1, read.GetInt64(0) + 1).Execute();
                    },
                    None);
            }
        })));
        var sum = await database.ReadAsync(
            c =>
            {
                using var s = c.Prepare("SELECT number FROM item");
                return s.Step() ? s.GetInt64(0) : -1;
            },
            None);
        Assert.Equal(Writers * Rounds, sum);
    }

    [Fact]
    public async Task A_taken_key_is_reported_and_a_broken_rule_is_a_defect()
    {
        await using var database = SqliteDatabase.Open(DatabasePath, Schemas.One);
        await database.WriteAsync(c => Insert(c, 1), None);
        var fault = await Assert.ThrowsAsync<FaultException>(async () => await database.WriteAsync(c => Insert(c, 1), None));
        Assert.Equal(FaultReason.AlreadyExists, fault.Reason);
        await Assert.ThrowsAsync<InvariantException>(async () =>
            await database.WriteAsync(c => c.Execute("INSERT INTO item VALUES(x'77', NULL, NULL)"), None));
        await Assert.ThrowsAsync<InvariantException>(async () => await database.WriteAsync(c => c.Execute("NONSENSE"), None));
    }

    [Fact]
    public async Task Cancelling_stops_a_long_statement_and_undoes_the_body()
    {
        await using var database = SqliteDatabase.Open(DatabasePath, Schemas.One);
        using var source = new CancellationTokenSource();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(async () => await database.WriteAsync(
            c =>
            {
                Insert(c, 1);
                using var endless = c.Prepare("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n");
                while (endless.Step())
                {
                    if (endless.GetInt64(0) == 1000)
                    {
                        source.Cancel();
                    }
                }
            },
            source.Token));
        Assert.Equal(0, await CountAsync(database));
        await Assert.ThrowsAnyAsync<OperationCanceledException>(async () => await database.WriteAsync(c => Insert(c, 2), source.Token));
    }

    [Fact]
    public async Task Statements_are_lent_once_and_reused()
    {
        await using var database = SqliteDatabase.Open(DatabasePath, Schemas.One);
        await database.WriteAsync(
            c =>
            {
                const string Sql = "SELECT 1 UNION ALL SELECT 2";
                var first = c.Prepare(Sql);
                Assert.True(first.Step());
                using (var nested = c.Prepare(Sql))
                {
                    Assert.NotSame(first, nested);
                    Assert.True(nested.Step());
                }
                Assert.True(first.Step());
                Assert.Equal(2, first.GetInt64(0));
                first.Dispose();
                Assert.Same(first, c.Prepare(Sql));
                Assert.Throws<InvariantException>(() => c.Prepare("SELECT 1; SELECT 2"));
            },
            None);
    }

    [Fact]
    public async Task What_outlives_its_body_is_refused()
    {
        await using var database = SqliteDatabase.Open(DatabasePath, Schemas.One);
        var (connection, statement) = await database.WriteAsync(c => (c, c.Prepare("SELECT 1")), None);
        Assert.Throws<InvariantException>(() => statement.Step());
        Assert.Throws<InvariantException>(() => connection.Prepare("SELECT 1"));
        await Assert.ThrowsAsync<InvariantException>(async () => await database.WriteAsync(async c => await Task.FromResult(1), None));
    }

    [Fact]
    public async Task Instances_of_one_name_in_memory_share_data()
    {
        await using var first = SqliteDatabase.OpenInMemory("shared", Schemas.One);
        await first.WriteAsync(c => Insert(c, 1), None);
        await using (var second = SqliteDatabase.OpenInMemory("shared", Schemas.One))
        {
            Assert.Equal(1, await CountAsync(second));
            await second.WriteAsync(c => Insert(c, 2), None);
        }
        Assert.Equal(2, await CountAsync(first));
        await using var other = SqliteDatabase.OpenInMemory("other", Schemas.One);
        Assert.Equal(0, await CountAsync(other));
    }

    [Fact]
    public async Task After_disposal_nothing_is_possible()
    {
        var database = SqliteDatabase.Open(DatabasePath, Schemas.One);
        await database.DisposeAsync();
        await database.DisposeAsync();
        await Assert.ThrowsAsync<ObjectDisposedException>(async () => await CountAsync(database));
        await Assert.ThrowsAsync<ObjectDisposedException>(async () => await database.WriteAsync(c => Insert(c, 1), None));
    }

    [Fact]
    public async Task Binding_and_inserting_ids_allocates_nothing_per_row()
    {
        await using var database = SqliteDatabase.OpenInMemory("allocation", Schemas.One);
        var bytes = await database.WriteAsync(
            c =>
            {
                using var s = c.Prepare("INSERT INTO item VALUES(?1, ?2, NULL)");
                s.Bind(1, new Id32(0, 1)).Bind(2, 1).Execute();
                var before = GC.GetAllocatedBytesForCurrentThread();
                for (var i = 2; i < 10_002; i++)
                {
                    s.Bind(1, new Id32(0, (UInt128)i)).Bind(2, i).Execute();
                }
                return GC.GetAllocatedBytesForCurrentThread() - before;
            },
            None);
        Assert.True(bytes < 10_000, $"10 000 rows allocated {bytes} bytes.");
    }

    internal static int Insert(ISqlConnection connection, int number)
    {
        using var s = connection.Prepare("INSERT INTO item(id, number) VALUES(?1, ?2)");
        return s.Bind(1, new Id32(0, (UInt128)number)).Bind(2, number).Execute();
    }

    internal static long Count(ISqlConnection connection)
    {
        using var s = connection.Prepare("SELECT count(*) FROM item");
        Assert.True(s.Step());
        return s.GetInt64(0);
    }

    internal static ValueTask<long> CountAsync(SqliteDatabase database) => database.ReadAsync(Count, None);
}
