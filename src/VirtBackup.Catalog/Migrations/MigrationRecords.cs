using VirtBackup.Core;
using VirtBackup.Database;

namespace VirtBackup.Catalog.Migrations;

/// <summary>Migrations, and how those that are over went. Every step is durable before it is taken.</summary>
public sealed class MigrationRecords(IDatabase database)
{
    private const string Columns = "migration_id, vm_id, vm_name, source_agent, target_agent, options, step, state, round, tries, point_id, failure, failure_reason, cancelled, result, "
        + "predicted_p50_us, predicted_p90_us, stop_us, start_us, last_us, last_bytes, downtime_us, created_ms, ended_ms, source_removed, stopped_ms";

    /// <summary>Stores a new migration; nothing happens when it is stored already.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.FailedPrecondition"/>: another one of this machine is not over.</exception>
    /// <returns>False: it was there already.</returns>
    public ValueTask<bool> AddAsync(MigrationRow row, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(row);
        return database.WriteAsync(
            connection =>
            {
                using (var other = connection.Prepare("SELECT migration_id FROM migration WHERE vm_id = ?1 AND state = 2 AND migration_id <> ?2"))
                {
                    if (other.Bind(1, row.VmId).Bind(2, row.MigrationId).Step())
                    {
                        throw new FaultException(FaultReason.FailedPrecondition, $"{row.VmName} is being migrated already (migration {other.GetId16(0)}): wait for it or cancel it.");
                    }
                }
                using var statement = connection.Prepare(
                    $"INSERT INTO migration ({Columns}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25, ?26) ON CONFLICT (migration_id) DO NOTHING RETURNING 1");
                return Bind(statement, row).Step();
            },
            cancellationToken);
    }

    public ValueTask SaveAsync(MigrationRow row, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(row);
        return database.WriteAsync(
            connection =>
            {
                using var statement = connection.Prepare($"INSERT OR REPLACE INTO migration ({Columns}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25, ?26)");
                Bind(statement, row).Execute();
            },
            cancellationToken);
    }

    /// <summary>Notes that no copy of the machine is left on a host: not that of its last migration from there, and so none of an earlier one.</summary>
    public ValueTask MarkSourceRemovedAsync(Id16 vmId, string agent, long untilMs, CancellationToken cancellationToken) =>
        database.WriteAsync(
            connection =>
            {
                using var statement = connection.Prepare(
                    "UPDATE migration SET source_removed = 1 WHERE vm_id = ?1 AND source_agent = ?2 AND target_agent <> ?2 AND state = 3 AND created_ms <= ?3");
                statement.Bind(1, vmId).Bind(2, agent).Bind(3, untilMs).Execute();
            },
            cancellationToken);

    /// <summary>The id of the last migration that took the machine from this host to another; null: none did.</summary>
    public ValueTask<Id16?> FindLastFromAsync(Id16 vmId, string agent, CancellationToken cancellationToken) =>
        database.ReadAsync(
            connection =>
            {
                using var statement = connection.Prepare(
                    "SELECT migration_id FROM migration WHERE vm_id = ?1 AND source_agent = ?2 AND target_agent <> ?2 AND state = 3 ORDER BY created_ms DESC, migration_id DESC LIMIT 1");
                return statement.Bind(1, vmId).Bind(2, agent).Step() ? statement.GetId16(0) : (Id16?)null;
            },
            cancellationToken);

    public ValueTask<MigrationRow?> FindAsync(Id16 migrationId, CancellationToken cancellationToken) =>
        database.ReadAsync(
            connection =>
            {
                using var statement = connection.Prepare($"SELECT {Columns} FROM migration WHERE migration_id = ?1");
                return statement.Bind(1, migrationId).Step() ? Read(statement) : null;
            },
            cancellationToken);

    /// <summary>Migrations that are not over, oldest first.</summary>
    public ValueTask<List<MigrationRow>> ListActiveAsync(CancellationToken cancellationToken) =>
        database.ReadAsync(
            static connection =>
            {
                using var statement = connection.Prepare($"SELECT {Columns} FROM migration WHERE state = 2 ORDER BY created_ms, migration_id");
                return ReadAll(statement);
            },
            cancellationToken);

    /// <summary>Migrations, newest first, behind the one given; null: from the newest.</summary>
    /// <param name="vmId">Only this machine's; null: all.</param>
    public ValueTask<List<MigrationRow>> ListAsync(Id16? vmId, (long CreatedMs, Id16 MigrationId)? before, int count, CancellationToken cancellationToken) =>
        database.ReadAsync(
            connection =>
            {
                using var statement = connection.Prepare(
                    $"SELECT {Columns} FROM migration WHERE (created_ms < ?1 OR (created_ms = ?1 AND migration_id < ?2)) {(vmId is null ? "" : "AND vm_id = ?4")} ORDER BY created_ms DESC, migration_id DESC LIMIT ?3");
                statement.Bind(1, before?.CreatedMs ?? long.MaxValue).Bind(2, before?.MigrationId ?? Id16.Empty).Bind(3, count);
                if (vmId is { } id)
                {
                    statement.Bind(4, id);
                }
                return ReadAll(statement);
            },
            cancellationToken);

    /// <summary>Migrations to another host that succeeded with a stop, newest first: what downtimes are predicted by.</summary>
    public ValueTask<List<MigrationRow>> ListScoredAsync(string sourceAgent, string targetAgent, int count, CancellationToken cancellationToken) =>
        database.ReadAsync(
            connection =>
            {
                using var statement = connection.Prepare(
                    $"SELECT {Columns} FROM migration WHERE state = 3 AND downtime_us > 0 AND source_agent = ?1 AND target_agent = ?2 ORDER BY created_ms DESC, migration_id DESC LIMIT ?3");
                return ReadAll(statement.Bind(1, sourceAgent).Bind(2, targetAgent).Bind(3, count));
            },
            cancellationToken);

    private static List<MigrationRow> ReadAll(IStatement statement)
    {
        var rows = new List<MigrationRow>();
        while (statement.Step())
        {
            rows.Add(Read(statement));
        }
        return rows;
    }

    private static IStatement Bind(IStatement statement, MigrationRow row)
    {
        statement.Bind(1, row.MigrationId).Bind(2, row.VmId).Bind(3, row.VmName).Bind(4, row.SourceAgent).Bind(5, row.TargetAgent).Bind(6, row.Options)
            .Bind(7, (int)row.Step).Bind(8, (int)row.State).Bind(9, row.Round).Bind(10, row.Tries).Bind(11, row.PointId).Bind(12, row.Failure)
            .Bind(13, (int)row.FailureReason).Bind(14, row.Cancelled ? 1 : 0).Bind(15, row.Result).Bind(16, Microseconds(row.PredictedP50Seconds))
            .Bind(17, Microseconds(row.PredictedP90Seconds)).Bind(18, Microseconds(row.StopSeconds)).Bind(19, Microseconds(row.StartSeconds))
            .Bind(20, Microseconds(row.LastSeconds)).Bind(21, row.LastBytes).Bind(22, Microseconds(row.DowntimeSeconds)).Bind(23, row.CreatedMs).Bind(25, row.SourceRemoved ? 1 : 0);
        return statement.BindTime(24, row.EndedMs).BindTime(26, row.StoppedMs);
    }

    private static MigrationRow Read(IStatement statement) => new()
    {
        MigrationId = statement.GetId16(0),
        VmId = statement.GetId16(1),
        VmName = statement.GetString(2)!,
        SourceAgent = statement.GetString(3)!,
        TargetAgent = statement.GetString(4)!,
        Options = statement.GetBytes(5),
        Step = (MigrationStep)statement.GetInt64(6),
        State = (JobPhase)statement.GetInt64(7),
        Round = (int)statement.GetInt64(8),
        Tries = (int)statement.GetInt64(9),
        PointId = statement.GetId16(10),
        Failure = statement.GetString(11)!,
        FailureReason = (FaultReason)statement.GetInt64(12),
        Cancelled = statement.GetInt64(13) != 0,
        Result = statement.GetBytes(14),
        PredictedP50Seconds = statement.GetInt64(15) / 1e6,
        PredictedP90Seconds = statement.GetInt64(16) / 1e6,
        StopSeconds = statement.GetInt64(17) / 1e6,
        StartSeconds = statement.GetInt64(18) / 1e6,
        LastSeconds = statement.GetInt64(19) / 1e6,
        LastBytes = statement.GetInt64(20),
        DowntimeSeconds = statement.GetInt64(21) / 1e6,
        CreatedMs = statement.GetInt64(22),
        EndedMs = statement.GetTime(23),
        SourceRemoved = statement.GetInt64(24) != 0,
        StoppedMs = statement.GetTime(25),
    };

    private static long Microseconds(double seconds) => (long)(Math.Clamp(seconds, 0, 1e9) * 1e6);
}
