namespace VirtBackup.Catalog.Replication;

/// <summary>The tables of replication: peers, rules, and what is known of the points that peers hold.</summary>
internal static class ReplicationSchema
{
    public const string Tables = """
        ALTER TABLE join_token ADD COLUMN role INTEGER NOT NULL DEFAULT 1;
        ALTER TABLE point ADD COLUMN origin BLOB NOT NULL DEFAULT x'00000000000000000000000000000000';
        ALTER TABLE point ADD COLUMN peer TEXT NOT NULL DEFAULT '';
        ALTER TABLE machine ADD COLUMN peer TEXT NOT NULL DEFAULT '';
        ALTER TABLE point ADD COLUMN sealed INTEGER NOT NULL DEFAULT 0;
        CREATE TABLE peer (
            name TEXT NOT NULL PRIMARY KEY,
            repository_id BLOB NOT NULL,
            created_ms INTEGER NOT NULL,
            tls_key_id BLOB NOT NULL,
            serial BLOB NOT NULL,
            certificate_expires_ms INTEGER NOT NULL,
            revoked_ms INTEGER,
            controller TEXT NOT NULL,
            offer INTEGER NOT NULL,
            allow_all INTEGER NOT NULL,
            allowed_revision INTEGER NOT NULL,
            version TEXT NOT NULL,
            last_seen_ms INTEGER NOT NULL
        );
        CREATE TABLE peer_allowed (
            peer TEXT NOT NULL,
            vm_id BLOB NOT NULL,
            PRIMARY KEY (peer, vm_id)
        );
        CREATE TABLE replication_rule (
            peer TEXT NOT NULL PRIMARY KEY,
            rule BLOB NOT NULL,
            changed_ms INTEGER NOT NULL,
            listing_id TEXT NOT NULL,
            position INTEGER NOT NULL,
            listed_ms INTEGER,
            complete_ms INTEGER
        );
        CREATE TABLE point_elsewhere (
            peer TEXT NOT NULL,
            point_id BLOB NOT NULL,
            vm_id BLOB NOT NULL,
            created_ms INTEGER NOT NULL,
            origin BLOB NOT NULL,
            sequence INTEGER NOT NULL,
            agent TEXT NOT NULL,
            hypervisor_kind TEXT NOT NULL,
            logical_bytes INTEGER NOT NULL,
            consistency INTEGER NOT NULL,
            consistency_detail TEXT NOT NULL,
            PRIMARY KEY (peer, point_id)
        );
        CREATE INDEX point_elsewhere_by_vm ON point_elsewhere (peer, vm_id, created_ms);
        CREATE TABLE machine_elsewhere (
            peer TEXT NOT NULL,
            vm_id BLOB NOT NULL,
            name TEXT NOT NULL,
            newest_ms INTEGER NOT NULL,
            PRIMARY KEY (peer, vm_id)
        );
        CREATE INDEX machine_elsewhere_by_vm ON machine_elsewhere (vm_id);
        CREATE TABLE expired_replica (
            point_id BLOB NOT NULL PRIMARY KEY,
            expired_ms INTEGER NOT NULL
        );
        """;
}
