namespace VirtBackup.Database.Tests;

internal static class Schemas
{
    public const string Items = "CREATE TABLE item(id BLOB PRIMARY KEY, number INTEGER NOT NULL, name TEXT) STRICT, WITHOUT ROWID";

    public static SchemaMigrations One { get; } = new("test", 0x5642_5431, [Items]);

    public static SchemaMigrations Two { get; } = new("test", 0x5642_5431, [Items, "ALTER TABLE item ADD COLUMN extra INTEGER; INSERT INTO item VALUES(x'00', 7, 'made by two', 1)"]);
}
