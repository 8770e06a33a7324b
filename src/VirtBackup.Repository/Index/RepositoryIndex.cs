using VirtBackup.Database;

namespace VirtBackup.Repository.Index;

/// <summary>
/// The schema of the repository's index: what is where. Everything in it can be rebuilt from the store. Open the database
/// with <see cref="Schema"/> and hand it to <see cref="BackupRepository.OpenAsync"/>.
/// </summary>
public static class RepositoryIndex
{
    private const int ApplicationId = 0x56424958; // "VBIX"

    /// <summary>
    /// Version 1. Pack, scope and epoch-set numbers are never reused. An object may have several locations, one per pack.
    /// A row of <c>complete_node</c> says that everything below the node is stored, when it covers <c>length</c> bytes of
    /// a stream and its chunks are those of <c>scope</c>.
    /// </summary>
    public static SchemaMigrations Schema { get; } = new("repository index", ApplicationId,
    [
        """
        CREATE TABLE owner(
            only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
            repository BLOB NOT NULL,
            generation INTEGER NOT NULL,
            nonce BLOB NOT NULL,
            rebuilding INTEGER NOT NULL);
        CREATE TABLE pack(
            number INTEGER PRIMARY KEY AUTOINCREMENT,
            hash BLOB NOT NULL UNIQUE,
            kind INTEGER NOT NULL,
            records INTEGER NOT NULL,
            bytes INTEGER NOT NULL,
            raw_bytes INTEGER NOT NULL,
            state INTEGER NOT NULL,
            generation INTEGER NOT NULL,
            created_ms INTEGER NOT NULL);
        CREATE TABLE scope(
            number INTEGER PRIMARY KEY AUTOINCREMENT,
            id BLOB NOT NULL UNIQUE);
        CREATE TABLE object(
            id BLOB NOT NULL,
            kind INTEGER NOT NULL,
            scope INTEGER NOT NULL,
            pack INTEGER NOT NULL,
            position INTEGER NOT NULL,
            sealed_length INTEGER NOT NULL,
            raw_length INTEGER NOT NULL,
            codec INTEGER NOT NULL,
            id_generation INTEGER NOT NULL,
            PRIMARY KEY (id, kind, scope, pack)) WITHOUT ROWID;
        CREATE TABLE epoch_set(
            number INTEGER PRIMARY KEY AUTOINCREMENT,
            hash BLOB NOT NULL UNIQUE,
            members BLOB NOT NULL);
        CREATE TABLE complete_node(
            id BLOB NOT NULL,
            scope INTEGER NOT NULL,
            length INTEGER NOT NULL,
            level INTEGER NOT NULL,
            shape INTEGER NOT NULL,
            epochs INTEGER NOT NULL,
            PRIMARY KEY (id, scope, length)) WITHOUT ROWID;
        CREATE TABLE point(
            point BLOB NOT NULL PRIMARY KEY,
            vm BLOB NOT NULL,
            lineage BLOB NOT NULL,
            scope BLOB NOT NULL,
            sequence INTEGER NOT NULL,
            created_ms INTEGER NOT NULL,
            generation INTEGER NOT NULL,
            attempt INTEGER NOT NULL,
            manifest BLOB NOT NULL,
            manifest_bytes INTEGER NOT NULL,
            previous_manifest BLOB NOT NULL,
            base_manifest BLOB NOT NULL,
            agent_key BLOB NOT NULL,
            stream_bytes INTEGER NOT NULL,
            state INTEGER NOT NULL) WITHOUT ROWID;
        CREATE INDEX point_of_vm ON point(vm, sequence);
        CREATE TABLE pending_commit(
            point BLOB NOT NULL PRIMARY KEY,
            vm BLOB NOT NULL,
            manifest BLOB NOT NULL,
            roots BLOB NOT NULL,
            created_ms INTEGER NOT NULL) WITHOUT ROWID;
        CREATE TABLE vm_key(
            vm BLOB NOT NULL,
            epoch BLOB NOT NULL,
            recipient BLOB NOT NULL,
            PRIMARY KEY (vm, epoch, recipient)) WITHOUT ROWID;
        """,
    ]);
}

/// <summary>What a pack in the index may be used for.</summary>
internal enum PackState
{
    Live = 0,
}
