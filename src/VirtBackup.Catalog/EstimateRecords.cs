using VirtBackup.Catalog.Estimates;
using VirtBackup.Core;
using VirtBackup.Database;

namespace VirtBackup.Catalog;

/// <summary>The series of restores of each path: what was estimated, and what they took.</summary>
public sealed class EstimateRecords(IDatabase database)
{
    /// <summary>Restores that are kept of a path.</summary>
    public const int CountMax = 500;

    private const string Columns =
        "job_id, point_id, path, made_ms, data_bytes, jobs, sample_bytes, sample_wire_bytes, sample_us, p50_us, p90_us, judged_by, actual_us, wire_bytes";

    /// <summary>Stores an estimate before its restore goes on; nothing happens when the job has one.</summary>
    public ValueTask AddAsync(EstimateRow row, CancellationToken cancellationToken) =>
        database.WriteAsync(
            connection =>
            {
                using (var statement = connection.Prepare(
                    $"INSERT INTO restore_estimate ({Columns}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, NULL, 0) ON CONFLICT (job_id) DO NOTHING"))
                {
                    statement.Bind(1, row.JobId).Bind(2, row.PointId).Bind(3, row.Path).Bind(4, row.MadeMs).Bind(5, row.DataBytes).Bind(6, row.Jobs)
                        .Bind(7, row.SampleBytes).Bind(8, row.SampleWireBytes).Bind(9, ToMicroseconds(row.SampleSeconds)).Bind(10, ToMicroseconds(row.P50Seconds))
                        .Bind(11, ToMicroseconds(row.P90Seconds)).Bind(12, row.JudgedBy).Execute();
                }
                using var old = connection.Prepare(
                    """
                    DELETE FROM restore_estimate WHERE path = ?1 AND made_ms <=
                        (SELECT made_ms FROM restore_estimate WHERE path = ?1 ORDER BY made_ms DESC, job_id DESC LIMIT 1 OFFSET ?2)
                    """);
                old.Bind(1, row.Path).Bind(2, CountMax).Execute();
            },
            cancellationToken);

    /// <summary>Scores an estimate; nothing happens to one that is scored.</summary>
    public ValueTask ScoreAsync(Id16 jobId, double actualSeconds, long wireBytes, CancellationToken cancellationToken) =>
        database.WriteAsync(
            connection =>
            {
                using var statement = connection.Prepare("UPDATE restore_estimate SET actual_us = ?2, wire_bytes = ?3 WHERE job_id = ?1 AND actual_us IS NULL");
                statement.Bind(1, jobId).Bind(2, ToMicroseconds(actualSeconds)).Bind(3, wireBytes).Execute();
            },
            cancellationToken);

    /// <summary>Takes back the estimate of a restore that came to nothing.</summary>
    public ValueTask WithdrawAsync(Id16 jobId, CancellationToken cancellationToken) =>
        database.WriteAsync(
            connection =>
            {
                using var statement = connection.Prepare("DELETE FROM restore_estimate WHERE job_id = ?1 AND actual_us IS NULL");
                statement.Bind(1, jobId).Execute();
            },
            cancellationToken);

    public ValueTask<EstimateRow?> FindAsync(Id16 jobId, CancellationToken cancellationToken) =>
        database.ReadAsync(
            connection =>
            {
                using var statement = connection.Prepare($"SELECT {Columns} FROM restore_estimate WHERE job_id = ?1");
                return statement.Bind(1, jobId).Step() ? Read(statement) : null;
            },
            cancellationToken);

    /// <summary>The path's restores that are over, newest first.</summary>
    public ValueTask<List<EstimateRow>> ListScoredAsync(string path, int count, CancellationToken cancellationToken) =>
        database.ReadAsync(
            connection =>
            {
                var rows = new List<EstimateRow>();
                using var statement = connection.Prepare(
                    $"SELECT {Columns} FROM restore_estimate WHERE path = ?1 AND actual_us IS NOT NULL ORDER BY made_ms DESC, job_id DESC LIMIT ?2");
                statement.Bind(1, path).Bind(2, count);
                while (statement.Step())
                {
                    rows.Add(Read(statement));
                }
                return rows;
            },
            cancellationToken);

    private static EstimateRow Read(IStatement statement) => new()
    {
        JobId = statement.GetId16(0),
        PointId = statement.GetId16(1),
        Path = statement.GetString(2)!,
        MadeMs = statement.GetInt64(3),
        DataBytes = statement.GetInt64(4),
        Jobs = (int)statement.GetInt64(5),
        SampleBytes = statement.GetInt64(6),
        SampleWireBytes = statement.GetInt64(7),
        SampleSeconds = ToSeconds(statement.GetInt64(8)),
        P50Seconds = ToSeconds(statement.GetInt64(9)),
        P90Seconds = ToSeconds(statement.GetInt64(10)),
        JudgedBy = (int)statement.GetInt64(11),
        ActualSeconds = statement.IsNull(12) ? null : ToSeconds(statement.GetInt64(12)),
        WireBytes = statement.GetInt64(13),
    };

    private static long ToMicroseconds(double seconds) => (long)(Math.Min(seconds, TimeSpan.MaxValue.TotalSeconds / 2) * 1e6);

    private static double ToSeconds(long microseconds) => microseconds / 1e6;
}
