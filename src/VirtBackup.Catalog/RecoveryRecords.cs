using VirtBackup.Catalog.Dependencies;
using VirtBackup.Core;
using VirtBackup.Database;

namespace VirtBackup.Catalog;

/// <summary>One machine of a recovery run: what was expected of it, and where it is. Times are Unix milliseconds.</summary>
public sealed record RecoveryMachineRow
{
    /// <summary>The run's job.</summary>
    public required Id16 RunId { get; init; }

    public required Id16 VmId { get; init; }

    public RecoveryStep Step { get; init; }

    /// <summary>What is expected: half of the cases are over within it.</summary>
    public RecoveryDurations P50 { get; init; }

    /// <summary>Nine of ten are.</summary>
    public RecoveryDurations P90 { get; init; }

    public long? BegunMs { get; init; }

    /// <summary>Its disks were whole.</summary>
    public long? RestoredMs { get; init; }

    /// <summary>It was told to start.</summary>
    public long? StartedMs { get; init; }

    /// <summary>When it became ready, failed, or was found to stay off.</summary>
    public long? EndedMs { get; init; }

    /// <summary>The host that it starts on, with <see cref="ProbeKey"/>: what readiness times are judged by.</summary>
    public string Agent { get; init; } = "";

    /// <summary>The probe in words; another probe takes another time.</summary>
    public string ProbeKey { get; init; } = "";

    /// <summary>Former starts that <see cref="P50"/>'s readiness is judged by; 0: others' or none.</summary>
    public int JudgedBy { get; init; }

    /// <summary>What it took from the order to start to ready; null: it did not come to that.</summary>
    public double? ReadySeconds { get; init; }

    /// <summary>Why it is not ready; empty: it is, or nothing went wrong yet.</summary>
    public string Message { get; init; } = "";
}

/// <summary>What was foretold of a whole run, and what became of it. Seconds.</summary>
/// <param name="ActualSeconds">Null: it is not over, or not every machine became ready.</param>
public sealed record RecoveryScore(Id16 RunId, long MadeMs, int Machines, double P50Seconds, double P90Seconds, double? ActualSeconds);

/// <summary>Recovery runs, machine by machine, and how well they were foretold.</summary>
public sealed class RecoveryRecords(IDatabase database)
{
    /// <summary>Runs that are kept.</summary>
    public const int CountMax = 500;

    private const string Columns =
        "run_id, vm_id, step, restore_p50_us, ready_p50_us, restore_p90_us, ready_p90_us, begun_ms, restored_ms, started_ms, ended_ms, agent, probe, ready_us, message, judged_by";

    public ValueTask SaveAsync(RecoveryMachineRow row, CancellationToken cancellationToken) =>
        database.WriteAsync(
            connection =>
            {
                using var statement = connection.Prepare($"INSERT OR REPLACE INTO recovery_machine ({Columns}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)");
                statement.Bind(1, row.RunId).Bind(2, row.VmId).Bind(3, (int)row.Step).Bind(4, ToMicroseconds(row.P50.RestoreSeconds)).Bind(5, ToMicroseconds(row.P50.ReadySeconds))
                    .Bind(6, ToMicroseconds(row.P90.RestoreSeconds)).Bind(7, ToMicroseconds(row.P90.ReadySeconds)).Bind(12, row.Agent).Bind(13, row.ProbeKey).Bind(15, row.Message).Bind(16, row.JudgedBy);
                statement.BindTime(8, row.BegunMs).BindTime(9, row.RestoredMs).BindTime(10, row.StartedMs).BindTime(11, row.EndedMs)
                    .BindTime(14, row.ReadySeconds is { } seconds ? ToMicroseconds(seconds) : null).Execute();
            },
            cancellationToken);

    /// <summary>The machines of a run.</summary>
    public ValueTask<Dictionary<Id16, RecoveryMachineRow>> ListAsync(Id16 runId, CancellationToken cancellationToken) =>
        database.ReadAsync(
            connection =>
            {
                var rows = new Dictionary<Id16, RecoveryMachineRow>();
                using var statement = connection.Prepare($"SELECT {Columns} FROM recovery_machine WHERE run_id = ?1");
                statement.Bind(1, runId);
                while (statement.Step())
                {
                    rows.Add(statement.GetId16(1), Read(statement));
                }
                return rows;
            },
            cancellationToken);

    /// <summary>What the machine took from the order to start until its probe succeeded, on this agent's host and with this probe; newest first.</summary>
    public ValueTask<List<double>> ListReadySecondsAsync(Id16 vmId, string agent, string probeKey, int count, CancellationToken cancellationToken) =>
        ListSecondsAsync("vm_id = ?1 AND agent = ?2 AND probe = ?3", statement => statement.Bind(1, vmId).Bind(2, agent).Bind(3, probeKey), count, cancellationToken);

    /// <summary>The same of all machines of an agent with the same kind of probe: for one that was never started there.</summary>
    public ValueTask<List<double>> ListReadySecondsAsync(string agent, string probeKind, int count, CancellationToken cancellationToken) =>
        ListSecondsAsync("agent = ?1 AND probe LIKE ?2", statement => statement.Bind(1, agent).Bind(2, probeKind + "%"), count, cancellationToken);

    /// <summary>Notes what is foretold of a run, before its first restore; nothing happens when it is noted already. The oldest go.</summary>
    public ValueTask AddScoreAsync(RecoveryScore score, CancellationToken cancellationToken) =>
        database.WriteAsync(
            connection =>
            {
                using (var statement = connection.Prepare(
                    "INSERT INTO recovery_score (run_id, made_ms, machines, p50_us, p90_us, actual_us) VALUES (?1, ?2, ?3, ?4, ?5, NULL) ON CONFLICT (run_id) DO NOTHING"))
                {
                    statement.Bind(1, score.RunId).Bind(2, score.MadeMs).Bind(3, score.Machines).Bind(4, ToMicroseconds(score.P50Seconds)).Bind(5, ToMicroseconds(score.P90Seconds)).Execute();
                }
                using (var old = connection.Prepare(
                    "DELETE FROM recovery_score WHERE made_ms <= (SELECT made_ms FROM recovery_score ORDER BY made_ms DESC, run_id DESC LIMIT 1 OFFSET ?1)"))
                {
                    old.Bind(1, CountMax).Execute();
                }
                using var machines = connection.Prepare("DELETE FROM recovery_machine WHERE ended_ms IS NOT NULL AND ended_ms < ?1 AND run_id NOT IN (SELECT run_id FROM recovery_score)");
                machines.Bind(1, score.MadeMs).Execute();
            },
            cancellationToken);

    /// <summary>Scores a run that came to its end with every machine ready.</summary>
    public ValueTask ScoreAsync(Id16 runId, double actualSeconds, CancellationToken cancellationToken) =>
        database.WriteAsync(
            connection =>
            {
                using var statement = connection.Prepare("UPDATE recovery_score SET actual_us = ?2 WHERE run_id = ?1 AND actual_us IS NULL");
                statement.Bind(1, runId).Bind(2, ToMicroseconds(actualSeconds)).Execute();
            },
            cancellationToken);

    /// <summary>Runs, newest first.</summary>
    public ValueTask<List<RecoveryScore>> ListScoresAsync(int count, CancellationToken cancellationToken) =>
        database.ReadAsync(
            connection =>
            {
                var scores = new List<RecoveryScore>();
                using var statement = connection.Prepare("SELECT run_id, made_ms, machines, p50_us, p90_us, actual_us FROM recovery_score ORDER BY made_ms DESC, run_id DESC LIMIT ?1");
                statement.Bind(1, count);
                while (statement.Step())
                {
                    scores.Add(new RecoveryScore(
                        statement.GetId16(0), statement.GetInt64(1), (int)statement.GetInt64(2), ToSeconds(statement.GetInt64(3)), ToSeconds(statement.GetInt64(4)),
                        statement.IsNull(5) ? null : ToSeconds(statement.GetInt64(5))));
                }
                return scores;
            },
            cancellationToken);

    private ValueTask<List<double>> ListSecondsAsync(string filter, Func<IStatement, IStatement> bind, int count, CancellationToken cancellationToken) =>
        database.ReadAsync(
            connection =>
            {
                var seconds = new List<double>();
                using var statement = connection.Prepare($"SELECT ready_us FROM recovery_machine WHERE {filter} AND ready_us IS NOT NULL ORDER BY ended_ms DESC LIMIT {count}");
                bind(statement);
                while (statement.Step())
                {
                    seconds.Add(ToSeconds(statement.GetInt64(0)));
                }
                return seconds;
            },
            cancellationToken);

    private static RecoveryMachineRow Read(IStatement statement) => new()
    {
        RunId = statement.GetId16(0),
        VmId = statement.GetId16(1),
        Step = (RecoveryStep)statement.GetInt64(2),
        P50 = new RecoveryDurations(ToSeconds(statement.GetInt64(3)), ToSeconds(statement.GetInt64(4))),
        P90 = new RecoveryDurations(ToSeconds(statement.GetInt64(5)), ToSeconds(statement.GetInt64(6))),
        BegunMs = statement.GetTime(7),
        RestoredMs = statement.GetTime(8),
        StartedMs = statement.GetTime(9),
        EndedMs = statement.GetTime(10),
        Agent = statement.GetString(11)!,
        ProbeKey = statement.GetString(12)!,
        ReadySeconds = statement.IsNull(13) ? null : ToSeconds(statement.GetInt64(13)),
        Message = statement.GetString(14)!,
        JudgedBy = (int)statement.GetInt64(15),
    };

    private static long ToMicroseconds(double seconds) => (long)(Math.Clamp(seconds, 0, TimeSpan.MaxValue.TotalSeconds / 2) * 1e6);

    private static double ToSeconds(long microseconds) => microseconds / 1e6;
}
