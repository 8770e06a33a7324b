using System.Globalization;
using Microsoft.Data.Sqlite;
using VirtBackup.Database;
using VirtBackup.Format.Records;
using VirtBackup.ObjectStores;
using VirtBackup.Repository.Index;
using VirtBackup.Repository.Tests.Fixtures;

namespace VirtBackup.Repository.Tests.Golden;

/// <summary>Makes the golden files of the present versions, and takes copies of old ones.</summary>
internal static class GoldenFiles
{
    /// <summary>The version of the repository's format that this program writes.</summary>
    public const int FormatVersion = 1;

    public static string FolderOf(int formatVersion) => Path.Combine(AppContext.BaseDirectory, "Golden", $"v{formatVersion}");

    public static string IndexOf(int formatVersion, int schemaVersion) => Path.Combine(FolderOf(formatVersion), $"index-v{schemaVersion}.sql");

    /// <summary>A copy of a golden repository that may be changed.</summary>
    public static LocalFolderStore OpenCopy(int formatVersion, string folder)
    {
        var source = Path.Combine(FolderOf(formatVersion), "repository");
        var target = Path.Combine(folder, "repository");
        foreach (var file in Directory.EnumerateFiles(source, "*", SearchOption.AllDirectories))
        {
            var copy = Path.Combine(target, Path.GetRelativePath(source, file));
            Directory.CreateDirectory(Path.GetDirectoryName(copy)!);
            File.Copy(file, copy);
        }
        return LocalFolderStore.Open(target);
    }

    /// <summary>Writes what is missing: an index of the present schema, and its repository unless its format has one already.</summary>
    public static async Task WriteAsync(string folder)
    {
        var hasRepository = Directory.Exists(Path.Combine(FolderOf(FormatVersion), "repository"));
        var index = Path.Combine(folder, "index.db");
        using (var store = hasRepository ? OpenCopy(FormatVersion, folder) : LocalFolderStore.Open(Path.Combine(folder, "repository"), new LocalFolderOptions { CreateFolder = true }))
        {
            if (!hasRepository)
            {
                await World.InitializeAsync(store);
            }
            await using var world = await World.OpenAsync(store, SqliteDatabase.Open(index, RepositoryIndex.Schema));
            if (!hasRepository)
            {
                await BackUpAsync(world);
            }
        }
        File.Delete(Path.Combine(folder, "repository", "lock"));
        File.WriteAllLines(Path.Combine(folder, $"index-v{RepositoryIndex.Schema.Version}.sql"), DumpSql(index));
    }

    /// <summary>An index as a program of an earlier schema version left it.</summary>
    public static void RestoreIndex(string sqlFile, string path)
    {
        using var connection = Open(path);
        Run(connection, File.ReadAllText(sqlFile));
    }

    private static async Task BackUpAsync(World world)
    {
        foreach (var point in GoldenPoint.All)
        {
            await using var session = world.Begin();
            await world.Repository.PutKeyAsync(point.Bytes.Machine.Key(1), World.Token);
            await World.SendAsync(session, RecordKind.Data, point.Records);
            await World.SendAsync(session, RecordKind.Map, point.Bytes.Nodes);
            await world.CommitAsync(session, point.Bytes);
        }
        await world.Repository.ForgetAsync(GoldenPoint.Forgotten.Bytes.Id, World.Token);
    }

    private static List<string> DumpSql(string path)
    {
        using var connection = Open(path);
        var lines = new List<string>
        {
            $"PRAGMA application_id={Query(connection, "PRAGMA application_id")[0]};", $"PRAGMA user_version={Query(connection, "PRAGMA user_version")[0]};",
        };
        lines.AddRange(Query(connection, "SELECT sql || ';' FROM sqlite_schema WHERE type = 'table' AND name <> 'sqlite_sequence' ORDER BY rowid"));
        foreach (var table in Query(connection, "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name <> 'sqlite_sequence', rowid"))
        {
            var columns = string.Join(" || ', ' || ", Query(connection, $"SELECT 'quote(' || name || ')' FROM pragma_table_info('{table}')"));
            lines.AddRange(Query(connection, $"SELECT 'INSERT INTO {table} VALUES (' || {columns} || ');' FROM {table}"));
        }
        lines.AddRange(Query(connection, "SELECT sql || ';' FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL ORDER BY rowid"));
        return lines;
    }

    private static SqliteConnection Open(string path)
    {
        var connection = new SqliteConnection($"Data Source={path};Pooling=False");
        connection.Open();
        return connection;
    }

    private static void Run(SqliteConnection connection, string sql)
    {
        using var command = connection.CreateCommand();
        command.CommandText = sql;
        command.ExecuteNonQuery();
    }

    private static List<string> Query(SqliteConnection connection, string sql)
    {
        using var command = connection.CreateCommand();
        command.CommandText = sql;
        using var reader = command.ExecuteReader();
        var values = new List<string>();
        while (reader.Read())
        {
            values.Add(Convert.ToString(reader.GetValue(0), CultureInfo.InvariantCulture)!);
        }
        return values;
    }
}
