using VirtBackup.Core;
using VirtBackup.Database;

namespace VirtBackup.Catalog;

/// <summary>Jobs and their logs. A job is durable before anybody hears of it.</summary>
public sealed class JobRecords(IDatabase database)
{
    /// <summary>Lines kept of one job's log.</summary>
    public const int LogLinesMax = 10_000;

    /// <summary>Characters kept of one line.</summary>
    public const int LogCharsMax = 1024;

    private const string Columns =
        "number, job_id, request_id, kind, vm_id, vm_name, agent, point_id, state, attempt, cancel_requested, options, progress, result, failure_message, failure_reason, created_ms, started_ms, ended_ms, start";

    private const string Active = "state IN (1, 2)";

    /// <summary>Stores a new job, or finds the one that this request made before.</summary>
    /// <returns>The stored job, and whether it is new.</returns>
    /// <exception cref="FaultException">
    /// <see cref="FaultReason.FailedPrecondition"/>: another backup of this machine is under way.
    /// <see cref="FaultReason.AlreadyExists"/>: the request id made another kind of job.
    /// </exception>
    public ValueTask<(JobRow Job, bool IsNew)> AddAsync(JobRow job, CancellationToken cancellationToken) =>
        database.WriteAsync(
            connection =>
            {
                if (job.RequestId is { } requestId && FindByRequest(connection, requestId) is { } earlier)
                {
                    return earlier.Kind == job.Kind && earlier.VmId == job.VmId
                        ? (earlier, false)
                        : throw new FaultException(FaultReason.AlreadyExists, $"The request id '{requestId}' belongs to another job: use a new one.");
                }
                if (job.Kind == JobKind.Backup)
                {
                    RefuseSecondBackup(connection, job);
                }
                return (Insert(connection, job), true);
            },
            cancellationToken);

    /// <summary>Writes what changes in a job's life.</summary>
    public ValueTask SaveAsync(JobRow job, IReadOnlyCollection<JobLogLine> newLines, CancellationToken cancellationToken) =>
        database.WriteAsync(
            connection =>
            {
                using (var statement = connection.Prepare(
                    "UPDATE job SET state = ?2, attempt = ?3, cancel_requested = ?4, progress = ?5, result = ?6, failure_message = ?7, failure_reason = ?8, started_ms = ?9, ended_ms = ?10, agent = ?11, start = ?12 WHERE number = ?1"))
                {
                    statement.Bind(1, job.Number).Bind(2, (int)job.State).Bind(3, job.Attempt).Bind(4, job.CancelRequested ? 1 : 0)
                        .Bind(5, job.Progress).Bind(6, job.Result).Bind(7, job.FailureMessage).Bind(8, (int)job.FailureReason).Bind(11, job.Agent).Bind(12, job.Start);
                    statement.BindTime(9, job.StartedMs).BindTime(10, job.EndedMs).Execute();
                }
                AddLines(connection, job.Number, newLines);
            },
            cancellationToken);

    public ValueTask<JobRow?> FindAsync(Id16 jobId, CancellationToken cancellationToken) =>
        database.ReadAsync(
            connection =>
            {
                using var statement = connection.Prepare($"SELECT {Columns} FROM job WHERE job_id = ?1");
                return statement.Bind(1, jobId).Step() ? Read(statement) : null;
            },
            cancellationToken);

    /// <summary>The job that a request made.</summary>
    public ValueTask<JobRow?> FindByRequestAsync(string requestId, CancellationToken cancellationToken) =>
        database.ReadAsync(connection => FindByRequest(connection, requestId), cancellationToken);

    /// <summary>Jobs whose id lies between the two; at most <paramref name="count"/>.</summary>
    public ValueTask<List<JobRow>> FindByRangeAsync(Id16 first, Id16 last, int count, CancellationToken cancellationToken) =>
        database.ReadAsync(
            connection =>
            {
                using var statement = connection.Prepare($"SELECT {Columns} FROM job WHERE job_id >= ?1 AND job_id <= ?2 ORDER BY job_id LIMIT ?3");
                return ReadAll(statement.Bind(1, first).Bind(2, last).Bind(3, count));
            },
            cancellationToken);

    /// <summary>Jobs that are not over, oldest first.</summary>
    public ValueTask<List<JobRow>> ListActiveAsync(CancellationToken cancellationToken) =>
        database.ReadAsync(
            static connection =>
            {
                using var statement = connection.Prepare($"SELECT {Columns} FROM job WHERE {Active} ORDER BY number");
                return ReadAll(statement);
            },
            cancellationToken);

    /// <summary>Jobs, newest first, older than <paramref name="before"/> (a <see cref="JobRow.Number"/>; null: from the newest).</summary>
    /// <param name="vmId">Only this machine's; null: all.</param>
    public ValueTask<List<JobRow>> ListAsync(Id16? vmId, bool activeOnly, long? before, int count, CancellationToken cancellationToken) =>
        database.ReadAsync(
            connection =>
            {
                var filter = (vmId is null ? "" : " AND vm_id = ?3") + (activeOnly ? $" AND {Active}" : "");
                using var statement = connection.Prepare($"SELECT {Columns} FROM job WHERE number < ?1{filter} ORDER BY number DESC LIMIT ?2");
                statement.Bind(1, before ?? long.MaxValue).Bind(2, count);
                if (vmId is { } id)
                {
                    statement.Bind(3, id);
                }
                return ReadAll(statement);
            },
            cancellationToken);

    public ValueTask<List<JobLogLine>> ReadLogAsync(long number, CancellationToken cancellationToken) =>
        database.ReadAsync(
            connection =>
            {
                var lines = new List<JobLogLine>();
                using var statement = connection.Prepare("SELECT time_ms, text FROM job_log WHERE number = ?1 ORDER BY line");
                statement.Bind(1, number);
                while (statement.Step())
                {
                    lines.Add(new JobLogLine(statement.GetInt64(0), statement.GetString(1)!));
                }
                return lines;
            },
            cancellationToken);

    private static JobRow Insert(ISqlConnection connection, JobRow job)
    {
        using var statement = connection.Prepare(
            """
            INSERT INTO job (job_id, request_id, kind, vm_id, vm_name, agent, point_id, state, attempt, cancel_requested, options, progress, result,
                failure_message, failure_reason, created_ms, started_ms, start)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 0, ?10, ?11, ?12, '', 0, ?13, ?14, ?15) RETURNING number
            """);
        statement.Bind(1, job.JobId).Bind(2, job.RequestId).Bind(3, (int)job.Kind).Bind(4, job.VmId).Bind(5, job.VmName).Bind(6, job.Agent)
            .Bind(7, job.PointId).Bind(8, (int)job.State).Bind(9, job.Attempt).Bind(10, job.Options).Bind(11, job.Progress).Bind(12, job.Result)
            .Bind(13, job.CreatedMs).Bind(15, job.Start);
        statement.BindTime(14, job.StartedMs);
        Check.That(statement.Step());
        return job with { Number = statement.GetInt64(0) };
    }

    private static void RefuseSecondBackup(ISqlConnection connection, JobRow job)
    {
        using var statement = connection.Prepare($"SELECT job_id FROM job WHERE vm_id = ?1 AND kind = {(int)JobKind.Backup} AND {Active}");
        if (statement.Bind(1, job.VmId).Step())
        {
            throw new FaultException(
                FaultReason.FailedPrecondition, $"A backup of '{job.VmName}' is under way already (job {statement.GetId16(0)}): wait for it or cancel it.");
        }
    }

    private static void AddLines(ISqlConnection connection, long number, IReadOnlyCollection<JobLogLine> lines)
    {
        if (lines.Count == 0)
        {
            return;
        }
        long next;
        using (var last = connection.Prepare("SELECT coalesce(max(line), -1) FROM job_log WHERE number = ?1"))
        {
            last.Bind(1, number).Step();
            next = last.GetInt64(0) + 1;
        }
        using var statement = connection.Prepare("INSERT INTO job_log (number, line, time_ms, text) VALUES (?1, ?2, ?3, ?4)");
        foreach (var line in lines.Take((int)Math.Max(0, LogLinesMax - next)))
        {
            var text = line.Text.Length <= LogCharsMax ? line.Text : line.Text[..LogCharsMax];
            statement.Bind(1, number).Bind(2, next++).Bind(3, line.TimeMs).Bind(4, text).Execute();
        }
    }

    private static JobRow? FindByRequest(ISqlConnection connection, string requestId)
    {
        using var statement = connection.Prepare($"SELECT {Columns} FROM job WHERE request_id = ?1");
        return statement.Bind(1, requestId).Step() ? Read(statement) : null;
    }

    private static List<JobRow> ReadAll(IStatement statement)
    {
        var rows = new List<JobRow>();
        while (statement.Step())
        {
            rows.Add(Read(statement));
        }
        return rows;
    }

    private static JobRow Read(IStatement statement) => new()
    {
        Number = statement.GetInt64(0),
        JobId = statement.GetId16(1),
        RequestId = statement.GetString(2),
        Kind = (JobKind)statement.GetInt64(3),
        VmId = statement.GetId16(4),
        VmName = statement.GetString(5)!,
        Agent = statement.GetString(6)!,
        PointId = statement.GetId16(7),
        State = (JobPhase)statement.GetInt64(8),
        Attempt = statement.GetInt64(9),
        CancelRequested = statement.GetInt64(10) != 0,
        Options = statement.GetBytes(11),
        Progress = statement.GetBytes(12),
        Result = statement.GetBytes(13),
        FailureMessage = statement.GetString(14)!,
        FailureReason = (FaultReason)statement.GetInt64(15),
        CreatedMs = statement.GetInt64(16),
        StartedMs = statement.GetTime(17),
        EndedMs = statement.GetTime(18),
        Start = statement.GetBytes(19),
    };
}
