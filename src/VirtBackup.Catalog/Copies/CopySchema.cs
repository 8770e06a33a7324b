namespace VirtBackup.Catalog.Copies;

internal static class CopySchema
{
    public const string Tables = """
        CREATE TABLE copy_store (
            name TEXT NOT NULL PRIMARY KEY,
            location TEXT NOT NULL,
            off_site INTEGER NOT NULL,
            rate INTEGER NOT NULL,
            created_ms INTEGER NOT NULL,
            complete_ms INTEGER
        );
        CREATE TABLE copy_point (
            store TEXT NOT NULL,
            point_id BLOB NOT NULL,
            vm_id BLOB NOT NULL,
            created_ms INTEGER NOT NULL,
            whole INTEGER NOT NULL,
            locked_until_ms INTEGER NOT NULL,
            released_ms INTEGER,
            PRIMARY KEY (store, point_id)
        );
        CREATE INDEX copy_point_by_vm ON copy_point (vm_id);
        CREATE TABLE copy_policy (
            name TEXT NOT NULL PRIMARY KEY,
            policy BLOB NOT NULL,
            changed_ms INTEGER NOT NULL
        );
        CREATE TABLE point_receipt (
            peer TEXT NOT NULL,
            point_id BLOB NOT NULL,
            locked_until_ms INTEGER NOT NULL,
            telling INTEGER NOT NULL,
            PRIMARY KEY (peer, point_id)
        );
        CREATE TABLE receipt_peer (
            peer TEXT NOT NULL PRIMARY KEY,
            store_kind TEXT NOT NULL
        );
        CREATE INDEX point_receipt_by_point ON point_receipt (point_id);
        """;
}
