using System.Globalization;
using VirtBackup.Core;

namespace VirtBackup.Database;

/// <summary>Brings a database to the known version; the version and the kind are in SQLite's file header.</summary>
internal static class SqliteSchema
{
    public static void Apply(SqliteSession session, SchemaMigrations schema)
    {
        Check.That(schema.ApplicationId != 0);
        var kind = ReadNumber(session, "PRAGMA application_id");
        var isEmpty = ReadNumber(session, "SELECT count(*) FROM sqlite_schema") == 0;
        if (kind != schema.ApplicationId && !(isEmpty && kind == 0))
        {
            throw new FaultException(
                FaultReason.Unsupported, $"The file {session.Path} is not a {schema.Name} database of this program: check the configured path.");
        }
        var version = ReadNumber(session, "PRAGMA user_version");
        if (version > schema.Version)
        {
            throw new FaultException(
                FaultReason.Unsupported,
                $"The {schema.Name} database {session.Path} has schema version {version}, this program knows versions up to {schema.Version}: install the newer program.");
        }
        for (var next = (int)version; next < schema.Version; next++)
        {
            var script = schema.Scripts[next];
            session.Run(
                "BEGIN IMMEDIATE",
                connection =>
                {
                    connection.Execute(script);
                    connection.Execute(string.Create(
                        CultureInfo.InvariantCulture, $"PRAGMA application_id={schema.ApplicationId}; PRAGMA user_version={next + 1}"));
                    return true;
                },
                CancellationToken.None);
        }
    }

    private static long ReadNumber(SqliteSession session, string sql) => long.Parse(session.Query(sql)!, CultureInfo.InvariantCulture);
}
