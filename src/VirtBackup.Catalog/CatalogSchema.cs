using VirtBackup.Catalog.Replication;
using VirtBackup.Database;

namespace VirtBackup.Catalog;

/// <summary>
/// The catalog's tables. Times are Unix milliseconds. What the repository holds too (recovery points) is a projection
/// and can be rebuilt; agents, tokens, revocations, jobs, rule sets, holds, groups and their runs, dependencies, series of runs and of restores are at home here.
/// </summary>
public static class CatalogSchema
{
    private const string Version1 = """
        CREATE TABLE agent (
            name TEXT NOT NULL PRIMARY KEY,
            tls_key_id BLOB NOT NULL,
            signing_key_id BLOB NOT NULL,
            signing_key BLOB NOT NULL,
            serial BLOB NOT NULL,
            certificate_expires_ms INTEGER NOT NULL,
            enrolled_ms INTEGER NOT NULL,
            last_seen_ms INTEGER NOT NULL,
            revoked_ms INTEGER,
            version TEXT NOT NULL,
            host_name TEXT NOT NULL,
            hypervisor_kind TEXT NOT NULL,
            boot_id BLOB NOT NULL
        );
        CREATE TABLE revoked (
            id BLOB NOT NULL PRIMARY KEY,
            agent TEXT NOT NULL,
            revoked_ms INTEGER NOT NULL
        );
        CREATE TABLE join_token (
            id BLOB NOT NULL PRIMARY KEY,
            secret_hash BLOB NOT NULL,
            agent_name TEXT,
            created_ms INTEGER NOT NULL,
            expires_ms INTEGER NOT NULL,
            used_ms INTEGER,
            used_by TEXT
        );
        CREATE TABLE machine (
            vm_id BLOB NOT NULL PRIMARY KEY,
            name TEXT NOT NULL,
            agent TEXT NOT NULL,
            running INTEGER NOT NULL,
            problem TEXT NOT NULL,
            present INTEGER NOT NULL
        );
        CREATE INDEX machine_by_agent ON machine (agent);
        CREATE TABLE disk (
            vm_id BLOB NOT NULL,
            position INTEGER NOT NULL,
            disk_id TEXT NOT NULL,
            name TEXT NOT NULL,
            length_bytes INTEGER NOT NULL,
            format TEXT NOT NULL,
            skip_reason TEXT NOT NULL,
            PRIMARY KEY (vm_id, position)
        );
        CREATE TABLE job (
            number INTEGER PRIMARY KEY,
            job_id BLOB NOT NULL UNIQUE,
            request_id TEXT UNIQUE,
            kind INTEGER NOT NULL,
            vm_id BLOB NOT NULL,
            vm_name TEXT NOT NULL,
            agent TEXT NOT NULL,
            point_id BLOB NOT NULL,
            state INTEGER NOT NULL,
            attempt INTEGER NOT NULL,
            cancel_requested INTEGER NOT NULL,
            options BLOB NOT NULL,
            progress BLOB NOT NULL,
            result BLOB NOT NULL,
            failure_message TEXT NOT NULL,
            failure_reason INTEGER NOT NULL,
            created_ms INTEGER NOT NULL,
            started_ms INTEGER,
            ended_ms INTEGER
        );
        CREATE INDEX job_by_state ON job (state, number);
        CREATE INDEX job_by_vm ON job (vm_id, number);
        CREATE TABLE job_log (
            number INTEGER NOT NULL,
            line INTEGER NOT NULL,
            time_ms INTEGER NOT NULL,
            text TEXT NOT NULL,
            PRIMARY KEY (number, line)
        );
        CREATE TABLE point (
            point_id BLOB NOT NULL PRIMARY KEY,
            vm_id BLOB NOT NULL,
            vm_name TEXT NOT NULL,
            agent TEXT NOT NULL,
            created_ms INTEGER NOT NULL,
            sequence INTEGER NOT NULL,
            consistency INTEGER NOT NULL,
            consistency_detail TEXT NOT NULL,
            logical_bytes INTEGER NOT NULL,
            read_bytes INTEGER NOT NULL,
            stored_bytes INTEGER NOT NULL,
            base_point_id BLOB NOT NULL,
            hypervisor_kind TEXT NOT NULL,
            forgotten INTEGER NOT NULL
        );
        CREATE INDEX point_by_time ON point (created_ms, point_id);
        CREATE INDEX point_by_vm ON point (vm_id, created_ms, point_id);
        CREATE TABLE point_stream (
            point_id BLOB NOT NULL,
            position INTEGER NOT NULL,
            stream_id TEXT NOT NULL,
            name TEXT NOT NULL,
            kind TEXT NOT NULL,
            length_bytes INTEGER NOT NULL,
            format TEXT NOT NULL,
            read_bytes INTEGER NOT NULL,
            read_reason TEXT NOT NULL,
            PRIMARY KEY (point_id, position)
        );
        """;

    private const string Version2 = """
        CREATE TABLE rule_set (
            name TEXT NOT NULL PRIMARY KEY,
            keep_last INTEGER NOT NULL,
            keep_hourly INTEGER NOT NULL,
            keep_daily INTEGER NOT NULL,
            keep_weekly INTEGER NOT NULL,
            keep_monthly INTEGER NOT NULL,
            keep_yearly INTEGER NOT NULL,
            keep_within_hours INTEGER NOT NULL,
            is_default INTEGER NOT NULL,
            changed_ms INTEGER NOT NULL
        );
        CREATE TABLE rule_set_of_machine (
            vm_id BLOB NOT NULL PRIMARY KEY,
            rule_set TEXT NOT NULL
        );
        CREATE INDEX rule_set_of_machine_by_name ON rule_set_of_machine (rule_set);
        CREATE TABLE hold (
            hold_id BLOB NOT NULL PRIMARY KEY,
            point_id BLOB NOT NULL,
            reason TEXT NOT NULL,
            placed_by TEXT NOT NULL,
            by_system INTEGER NOT NULL,
            placed_ms INTEGER NOT NULL
        );
        CREATE INDEX hold_by_point ON hold (point_id, placed_ms);
        CREATE TABLE point_check (
            point_id BLOB NOT NULL PRIMARY KEY,
            checked_ms INTEGER NOT NULL,
            sound INTEGER NOT NULL
        );
        CREATE TABLE trusted_time (
            id INTEGER NOT NULL PRIMARY KEY,
            mark_ms INTEGER NOT NULL,
            boot TEXT NOT NULL,
            ticks_ms INTEGER NOT NULL,
            unexplained_ms INTEGER NOT NULL,
            doubtful INTEGER NOT NULL
        );
        """;

    private const string Version3 = """
        CREATE TABLE damage (
            number INTEGER PRIMARY KEY,
            object TEXT NOT NULL,
            problem TEXT NOT NULL,
            found_ms INTEGER NOT NULL,
            healed_ms INTEGER NOT NULL,
            ranges_cut INTEGER NOT NULL
        );
        CREATE UNIQUE INDEX open_damage ON damage (object) WHERE healed_ms = 0;
        CREATE TABLE damage_range (
            number INTEGER NOT NULL,
            position INTEGER NOT NULL,
            point_id BLOB NOT NULL,
            vm_id BLOB NOT NULL,
            stream_id BLOB NOT NULL,
            offset_bytes INTEGER NOT NULL,
            length_bytes INTEGER NOT NULL,
            doubtful INTEGER NOT NULL,
            PRIMARY KEY (number, position)
        );
        CREATE TABLE scrub_cycle (
            id INTEGER NOT NULL PRIMARY KEY,
            finished_ms INTEGER NOT NULL,
            objects_ms INTEGER NOT NULL,
            bytes INTEGER NOT NULL,
            damages INTEGER NOT NULL
        );
        """;

    private const string Version4 = """
        CREATE TABLE run (
            point_id BLOB NOT NULL PRIMARY KEY,
            vm_id BLOB NOT NULL,
            ended_ms INTEGER NOT NULL,
            logical_bytes INTEGER NOT NULL,
            grown_bytes INTEGER NOT NULL,
            new_bytes INTEGER NOT NULL,
            stored_bytes INTEGER NOT NULL,
            cut TEXT NOT NULL,
            comparable INTEGER NOT NULL,
            verdict INTEGER NOT NULL,
            usual_new INTEGER NOT NULL,
            usual_stored INTEGER NOT NULL,
            held INTEGER NOT NULL,
            finished INTEGER NOT NULL
        );
        CREATE INDEX run_by_vm ON run (vm_id, ended_ms, point_id);
        CREATE INDEX abnormal_run ON run (vm_id) WHERE verdict = 2;
        """;

    private const string Version5 = """
        ALTER TABLE run ADD COLUMN audited_bytes INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE run ADD COLUMN audit_misses INTEGER NOT NULL DEFAULT 0;
        CREATE TABLE audit (
            vm_id BLOB NOT NULL PRIMARY KEY,
            point_id BLOB NOT NULL,
            ended_ms INTEGER NOT NULL,
            unchanged_blocks INTEGER NOT NULL,
            audited_blocks INTEGER NOT NULL,
            audited_bytes INTEGER NOT NULL,
            runs INTEGER NOT NULL,
            runs_taken INTEGER NOT NULL,
            runs_left INTEGER NOT NULL,
            rotated_bytes INTEGER NOT NULL,
            rotation_bytes INTEGER NOT NULL,
            cut INTEGER NOT NULL,
            omitted TEXT NOT NULL,
            rotation_ms INTEGER NOT NULL,
            suspect_ms INTEGER NOT NULL,
            miss_ms INTEGER NOT NULL,
            miss TEXT NOT NULL
        );
        """;

    private const string Version6 = """
        CREATE TABLE restore_estimate (
            job_id BLOB NOT NULL PRIMARY KEY,
            point_id BLOB NOT NULL,
            path TEXT NOT NULL,
            made_ms INTEGER NOT NULL,
            data_bytes INTEGER NOT NULL,
            jobs INTEGER NOT NULL,
            sample_bytes INTEGER NOT NULL,
            sample_wire_bytes INTEGER NOT NULL,
            sample_us INTEGER NOT NULL,
            p50_us INTEGER NOT NULL,
            p90_us INTEGER NOT NULL,
            judged_by INTEGER NOT NULL,
            actual_us INTEGER,
            wire_bytes INTEGER NOT NULL
        );
        CREATE INDEX restore_estimate_by_path ON restore_estimate (path, made_ms, job_id);
        """;

    private const string Version7 = """
        ALTER TABLE point ADD COLUMN frozen_ms INTEGER NOT NULL DEFAULT 0;
        """;

    private const string MigrationTable = """
        CREATE TABLE migration (
            migration_id BLOB NOT NULL PRIMARY KEY,
            vm_id BLOB NOT NULL,
            vm_name TEXT NOT NULL,
            source_agent TEXT NOT NULL,
            target_agent TEXT NOT NULL,
            options BLOB NOT NULL,
            step INTEGER NOT NULL,
            state INTEGER NOT NULL,
            round INTEGER NOT NULL,
            tries INTEGER NOT NULL,
            point_id BLOB NOT NULL,
            failure TEXT NOT NULL,
            failure_reason INTEGER NOT NULL,
            cancelled INTEGER NOT NULL,
            result BLOB NOT NULL,
            predicted_p50_us INTEGER NOT NULL,
            predicted_p90_us INTEGER NOT NULL,
            stop_us INTEGER NOT NULL,
            start_us INTEGER NOT NULL,
            last_us INTEGER NOT NULL,
            last_bytes INTEGER NOT NULL,
            downtime_us INTEGER NOT NULL,
            created_ms INTEGER NOT NULL,
            ended_ms INTEGER,
            source_removed INTEGER NOT NULL,
            stopped_ms INTEGER
        );
        CREATE INDEX migration_by_time ON migration (created_ms, migration_id);
        """;

    private const string GroupTables = """
        CREATE TABLE machine_group (
            name TEXT NOT NULL PRIMARY KEY,
            skew_bound_ms INTEGER NOT NULL,
            created_ms INTEGER NOT NULL
        );
        CREATE TABLE group_member (
            name TEXT NOT NULL,
            vm_id BLOB NOT NULL,
            PRIMARY KEY (name, vm_id)
        );
        CREATE TABLE group_run (
            run_id BLOB NOT NULL PRIMARY KEY,
            name TEXT NOT NULL,
            state INTEGER NOT NULL,
            started_ms INTEGER NOT NULL,
            cut_ms INTEGER NOT NULL,
            skew_us INTEGER NOT NULL,
            skew_bound_ms INTEGER NOT NULL
        );
        CREATE INDEX group_run_by_name ON group_run (name, cut_ms, run_id);
        CREATE TABLE group_run_member (
            run_id BLOB NOT NULL,
            vm_id BLOB NOT NULL,
            vm_name TEXT NOT NULL,
            agent TEXT NOT NULL,
            job_id BLOB NOT NULL,
            point_id BLOB NOT NULL,
            held INTEGER NOT NULL,
            PRIMARY KEY (run_id, vm_id)
        );
        """;

    private const string DependencyTables = """
        ALTER TABLE job ADD COLUMN start BLOB NOT NULL DEFAULT x'';
        CREATE TABLE dependency (
            vm_id BLOB NOT NULL,
            needs BLOB NOT NULL,
            PRIMARY KEY (vm_id, needs)
        );
        CREATE TABLE probe (
            vm_id BLOB NOT NULL PRIMARY KEY,
            kind INTEGER NOT NULL,
            target TEXT NOT NULL,
            timeout_ms INTEGER NOT NULL,
            interval_ms INTEGER NOT NULL
        );
        CREATE TABLE recovery_machine (
            run_id BLOB NOT NULL,
            vm_id BLOB NOT NULL,
            step INTEGER NOT NULL,
            restore_p50_us INTEGER NOT NULL,
            ready_p50_us INTEGER NOT NULL,
            restore_p90_us INTEGER NOT NULL,
            ready_p90_us INTEGER NOT NULL,
            begun_ms INTEGER,
            restored_ms INTEGER,
            started_ms INTEGER,
            ended_ms INTEGER,
            agent TEXT NOT NULL,
            probe TEXT NOT NULL,
            ready_us INTEGER,
            message TEXT NOT NULL,
            judged_by INTEGER NOT NULL,
            PRIMARY KEY (run_id, vm_id)
        );
        CREATE INDEX recovery_machine_by_agent ON recovery_machine (agent, probe, vm_id, ended_ms);
        CREATE TABLE recovery_score (
            run_id BLOB NOT NULL PRIMARY KEY,
            made_ms INTEGER NOT NULL,
            machines INTEGER NOT NULL,
            p50_us INTEGER NOT NULL,
            p90_us INTEGER NOT NULL,
            actual_us INTEGER
        );
        """;

    private const string StateColumns = """
        ALTER TABLE point ADD COLUMN memory_bytes INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE point ADD COLUMN state_stored_bytes INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE point ADD COLUMN paused_ms INTEGER NOT NULL DEFAULT 0;
        """;

    public static SchemaMigrations Migrations { get; } = new(
        "catalog", 0x56424341,
        [Version1, Version2, Version3, Version4, Version5, Version6, Version7, MigrationTable, GroupTables, DependencyTables, StateColumns, ReplicationSchema.Tables]);
}
