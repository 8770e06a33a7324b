using System.Diagnostics;
using System.Text;
using VirtBackup.Core;

namespace VirtBackup.Database.Tests;

public sealed class SqliteOpeningTests : IDisposable
{
    private static readonly CancellationToken None = CancellationToken.None;

    private readonly TempFolder _folder = new();

    private string DatabasePath => _folder.File("test.db");

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task A_second_owner_is_refused_until_the_first_closes()
    {
        var first = SqliteDatabase.Open(DatabasePath, Schemas.One);
        var fault = Assert.Throws<FaultException>(() => SqliteDatabase.Open(DatabasePath, Schemas.One));
        Assert.Equal(FaultReason.RepositoryBusy, fault.Reason);
        Assert.Contains(DatabasePath, fault.Message, StringComparison.Ordinal);
        await first.DisposeAsync();
        await using var second = SqliteDatabase.Open(DatabasePath, Schemas.One);
        Assert.Equal(0, await SqliteDatabaseTests.CountAsync(second));
    }

    [Fact]
    public async Task A_lock_of_another_process_is_reported_as_busy()
    {
        var options = new SqliteOptions { Exclusive = false, BusyTimeoutMilliseconds = 1 };
        await using var first = SqliteDatabase.Open(DatabasePath, Schemas.One, options);
        await using var second = SqliteDatabase.Open(DatabasePath, Schemas.One, options);
        await first.WriteAsync(
            c =>
            {
                var busy = Assert.Throws<FaultException>(() =>
                    second.WriteAsync(w => SqliteDatabaseTests.Insert(w, 1), None).AsTask().GetAwaiter().GetResult());
                Assert.Equal(FaultReason.RepositoryBusy, busy.Reason);
            },
            None);
    }

    [Fact]
    [System.Runtime.Versioning.UnsupportedOSPlatform("windows")]
    public async Task Its_files_are_the_owners_alone()
    {
        await using var database = SqliteDatabase.Open(DatabasePath, Schemas.One);
        await database.WriteAsync(c => SqliteDatabaseTests.Insert(c, 1), None);
        var files = Directory.GetFiles(_folder.Path);
        Assert.Equal(["test.db", "test.db-shm", "test.db-wal", "test.db.lock"], files.Select(Path.GetFileName).Order());
        Assert.All(files, file => Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(file)));
    }

    [Fact]
    public async Task An_older_schema_is_brought_up_once()
    {
        await using (var old = SqliteDatabase.Open(DatabasePath, Schemas.One))
        {
            await old.WriteAsync(c => SqliteDatabaseTests.Insert(c, 1), None);
        }
        for (var i = 0; i < 2; i++)
        {
            await using var database = SqliteDatabase.Open(DatabasePath, Schemas.Two);
            Assert.Equal(2, await SqliteDatabaseTests.CountAsync(database));
        }
    }

    [Fact]
    public async Task A_migration_that_fails_leaves_the_old_version()
    {
        await using (SqliteDatabase.Open(DatabasePath, Schemas.One))
        {
        }
        var broken = Schemas.One with { Scripts = [Schemas.Items, "CREATE TABLE half(a); NONSENSE"] };
        Assert.Throws<InvariantException>(() => SqliteDatabase.Open(DatabasePath, broken));
        await using var database = SqliteDatabase.Open(DatabasePath, Schemas.Two);
        var halves = await database.ReadAsync(
            c =>
            {
                using var s = c.Prepare("SELECT count(*) FROM sqlite_schema WHERE name = 'half'");
                return s.Step() ? s.GetInt64(0) : -1;
            },
            None);
        Assert.Equal(0, halves);
    }

    [Fact]
    public async Task A_newer_schema_and_another_kind_are_refused()
    {
        await using (SqliteDatabase.Open(DatabasePath, Schemas.Two))
        {
        }
        var newer = Assert.Throws<FaultException>(() => SqliteDatabase.Open(DatabasePath, Schemas.One));
        Assert.Equal(FaultReason.Unsupported, newer.Reason);
        Assert.Contains("version 2", newer.Message, StringComparison.Ordinal);
        var other = Assert.Throws<FaultException>(() => SqliteDatabase.Open(DatabasePath, Schemas.Two with { ApplicationId = 99 }));
        Assert.Equal(FaultReason.Unsupported, other.Reason);
    }

    [Fact]
    public void A_file_of_something_else_is_reported_as_damaged()
    {
        File.WriteAllText(DatabasePath, new StringBuilder().Insert(0, "this is not a database ", 500).ToString());
        var fault = Assert.Throws<FaultException>(() => SqliteDatabase.Open(DatabasePath, Schemas.One));
        Assert.Equal(FaultReason.Corrupt, fault.Reason);
        Assert.Contains(DatabasePath, fault.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_damaged_page_is_found_by_the_check_at_opening()
    {
        await using (var database = SqliteDatabase.Open(DatabasePath, Schemas.One))
        {
            await database.WriteAsync(
                c =>
                {
                    for (var i = 0; i < 2000; i++)
                    {
                        SqliteDatabaseTests.Insert(c, i);
                    }
                },
                None);
        }
        using (var file = File.OpenHandle(DatabasePath, access: FileAccess.ReadWrite))
        {
            var page = new byte[4096];
            Array.Fill(page, (byte)0xa5);
            RandomAccess.Write(file, page, 5 * 4096);
        }
        var fault = Assert.Throws<FaultException>(() =>
            SqliteDatabase.Open(DatabasePath, Schemas.One, new SqliteOptions { VerifyStructure = true }));
        Assert.Equal(FaultReason.Corrupt, fault.Reason);
    }

    [Fact]
    public void A_missing_folder_is_named()
    {
        var fault = Assert.Throws<FaultException>(() => SqliteDatabase.Open(_folder.File("missing/test.db"), Schemas.One));
        Assert.Equal(FaultReason.Unavailable, fault.Reason);
        Assert.Contains("missing", fault.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_path_with_special_characters_is_taken_as_it_is()
    {
        var path = _folder.File("a b?c=%41#.db");
        await using (var database = SqliteDatabase.Open(path, Schemas.One))
        {
            await database.WriteAsync(c => SqliteDatabaseTests.Insert(c, 1), None);
        }
        Assert.Equal(["a b?c=%41#.db", "a b?c=%41#.db.lock"], Directory.GetFiles(_folder.Path).Select(Path.GetFileName).Order());
    }

    [Fact]
    public async Task A_full_device_is_reported_and_loses_nothing_committed()
    {
        var mount = _folder.File("small");
        Directory.CreateDirectory(mount);
        Run("mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", mount);
        try
        {
            await using (var database = SqliteDatabase.Open(Path.Combine(mount, "test.db"), Schemas.One))
            {
                await database.WriteAsync(c => SqliteDatabaseTests.Insert(c, 1), None);
                var fault = await Assert.ThrowsAsync<FaultException>(async () => await database.WriteAsync(
                    c =>
                    {
                        using var s = c.Prepare("INSERT INTO item VALUES(?1, 1, ?2)");
                        for (var i = 2; i < 100; i++)
                        {
                            s.Bind(1, new Id32(0, (UInt128)i)).Bind(2, new string('x', 100_000)).Execute();
                        }
                    },
                    None));
                Assert.Equal(FaultReason.DeviceFull, fault.Reason);
                Assert.Equal(1, await SqliteDatabaseTests.CountAsync(database));
            }
            await using var again = SqliteDatabase.Open(Path.Combine(mount, "test.db"), Schemas.One, new SqliteOptions { VerifyStructure = true });
            Assert.Equal(1, await SqliteDatabaseTests.CountAsync(again));
        }
        finally
        {
            Run("umount", mount);
        }
    }

    private static void Run(string program, params string[] arguments)
    {
        using var process = Process.Start(new ProcessStartInfo(program, arguments) { RedirectStandardError = true })!;
        var error = process.StandardError.ReadToEnd();
        process.WaitForExit();
        Assert.True(process.ExitCode == 0, $"This test mounts a small file system and needs root: {program} failed: {error}");
    }
}
