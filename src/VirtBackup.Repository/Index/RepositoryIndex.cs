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
    /// Pack, scope and epoch-set numbers are never reused. An object may have several locations, one row per pack; its
    /// number, count, hold and condemnation are those of (id, kind) and the same in all its rows. <c>count</c>: distinct
    /// nodes that hold it, and roots (points, pending commits). <c>holds</c>: this node has added its children's counts.
    /// <c>condemned_ms</c>: when the collector first found it without reference; 0: not. A row whose <c>pack</c> is 0 is in
    /// quarantine: no sound copy is known, <c>position</c> is the number of the pack that held the last one. A negative
    /// <c>pack</c> is the number of one that is damaged nobody knows where: the record can be read, and nothing new relies on
    /// it. <c>checked_ms</c>: when the whole pack was last read and found sound, or handled; 0: never. <c>unreadable_ms</c>: since when
    /// it cannot be read; 0: it can, as far as is known. <c>state</c> of a
    /// point: see <see cref="PointState"/>. <c>origin</c> of a point: the repository where it was made. <c>forgotten_ms</c>: 0 for a point that is visible. A row of <c>complete_node</c> says that everything below the node is stored, when it covers <c>length</c> bytes of
    /// a stream and its chunks are those of <c>scope</c>. <c>retained</c>: objects that the store's provider is to keep until <c>wanted_ms</c>, and has promised
    /// to until <c>until_ms</c>.
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
        // Version 2: reference counts. What version 1 knew is made anew from the store.
        """
        DROP TABLE object;
        DROP TABLE pack;
        DROP TABLE point;
        DROP TABLE pending_commit;
        DELETE FROM complete_node;
        DELETE FROM epoch_set;
        DELETE FROM scope;
        UPDATE owner SET rebuilding = 1;
        CREATE TABLE pack(
            number INTEGER PRIMARY KEY AUTOINCREMENT,
            hash BLOB NOT NULL UNIQUE,
            kind INTEGER NOT NULL,
            records INTEGER NOT NULL,
            bytes INTEGER NOT NULL,
            raw_bytes INTEGER NOT NULL,
            state INTEGER NOT NULL,
            state_ms INTEGER NOT NULL,
            generation INTEGER NOT NULL,
            created_ms INTEGER NOT NULL,
            dead_records INTEGER NOT NULL,
            dead_bytes INTEGER NOT NULL);
        CREATE INDEX pack_with_dead ON pack(number) WHERE dead_records > 0 AND state = 0;
        CREATE INDEX pack_in_trash ON pack(number) WHERE state > 0;
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
            number INTEGER NOT NULL,
            count INTEGER NOT NULL,
            holds INTEGER NOT NULL,
            condemned_ms INTEGER NOT NULL,
            PRIMARY KEY (id, kind, scope, pack)) WITHOUT ROWID;
        CREATE INDEX object_without_reference ON object(pack) WHERE count = 0;
        CREATE INDEX node_to_release ON object(id) WHERE count = 0 AND holds = 1;
        CREATE TABLE numbering(
            only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
            next INTEGER NOT NULL);
        INSERT INTO numbering(only_row, next) VALUES (1, 1);
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
            state INTEGER NOT NULL,
            roots BLOB NOT NULL,
            forgotten_ms INTEGER NOT NULL) WITHOUT ROWID;
        CREATE INDEX point_of_vm ON point(vm, sequence);
        CREATE TABLE pending_commit(
            point BLOB NOT NULL PRIMARY KEY,
            vm BLOB NOT NULL,
            manifest BLOB NOT NULL,
            roots BLOB NOT NULL,
            created_ms INTEGER NOT NULL) WITHOUT ROWID;
        CREATE TABLE collection(
            only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
            cycle INTEGER NOT NULL,
            stage INTEGER NOT NULL,
            started_ms INTEGER NOT NULL,
            finished_ms INTEGER NOT NULL);
        CREATE TABLE audit(
            only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
            finished_ms INTEGER NOT NULL,
            problem TEXT,
            excess BLOB NOT NULL);
        """,
        // Version 3: packs that lost little are many in an old repository, and nothing is to be done about them.
        """
        DROP INDEX pack_with_dead;
        CREATE INDEX pack_to_repack ON pack((dead_bytes * 100 / bytes)) WHERE dead_records > 0 AND dead_records < records AND state = 0;
        CREATE INDEX pack_without_live ON pack(number) WHERE dead_records = records AND state = 0;
        """,
        // Version 4: proofs of packs, and what was found damaged.
        """
        ALTER TABLE pack ADD COLUMN checked_ms INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE pack ADD COLUMN unreadable_ms INTEGER NOT NULL DEFAULT 0;
        CREATE INDEX pack_by_proof ON pack(checked_ms, number) WHERE state = 0;
        CREATE INDEX object_without_location ON object(pack, position) WHERE pack <= 0;
        CREATE TABLE damage(
            pack INTEGER PRIMARY KEY,
            hash BLOB NOT NULL,
            problem TEXT NOT NULL,
            records INTEGER NOT NULL,
            found_ms INTEGER NOT NULL,
            healed_ms INTEGER NOT NULL);
        """,
        // Version 5: points of other repositories. All that there were so far were made here.
        """
        ALTER TABLE point ADD COLUMN origin BLOB NOT NULL DEFAULT X'';
        UPDATE point SET origin = (SELECT repository FROM owner);
        """,
        // Version 6: what the store's provider retains.
        """
        CREATE TABLE retained(
            name TEXT NOT NULL PRIMARY KEY,
            wanted_ms INTEGER NOT NULL,
            until_ms INTEGER NOT NULL,
            final INTEGER NOT NULL) WITHOUT ROWID;
        CREATE INDEX object_to_retain ON retained(name) WHERE wanted_ms > until_ms;
        """,
    ]);
}

/// <summary>How much of a point there is, and what is counted of it.</summary>
internal enum PointState
{
    /// <summary>Everything is there and counted.</summary>
    Whole = 0,

    /// <summary>Something was missing when the index was made: what is left is not counted.</summary>
    Uncounted = 1,

    /// <summary>Something below it is in quarantine, or in doubt: everything is counted.</summary>
    Damaged = 2,
}

/// <summary>What a pack in the index may be used for.</summary>
internal enum PackState
{
    Live = 0,

    /// <summary>No row names a record of it; the object goes when its time is over.</summary>
    Trash = 1,
}
