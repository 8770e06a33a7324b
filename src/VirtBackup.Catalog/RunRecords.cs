using VirtBackup.Catalog.Signals;
using VirtBackup.Core;
using VirtBackup.Database;

namespace VirtBackup.Catalog;

/// <summary>
/// What backup runs brought, as a series of each machine. A run that ended without its point is kept until one is finished,
/// because that one finds stored what the other sent.
/// </summary>
public sealed class RunRecords(IDatabase database)
{
    /// <summary>Finished runs that are kept of a machine; abnormal ones are kept beyond it.</summary>
    public const int CountMax = 1000;

    private const string Columns =
        "point_id, vm_id, ended_ms, logical_bytes, grown_bytes, new_bytes, stored_bytes, cut, comparable, verdict, usual_new, usual_stored, held, audited_bytes, audit_misses";

    /// <summary>Adds to what a run has sent that has not finished; nothing happens to one that has.</summary>
    public ValueTask AddUnfinishedAsync(RunRow run, CancellationToken cancellationToken) =>
        database.WriteAsync(
            connection =>
            {
                using var statement = Insert(connection, run, isFinished: false, "new_bytes = new_bytes + ?6, stored_bytes = stored_bytes + ?7 WHERE finished = 0");
                statement.Execute();
            },
            cancellationToken);

    /// <summary>What unfinished runs of the machine have sent.</summary>
    public ValueTask<(long NewBytes, long StoredBytes)> SumUnfinishedAsync(Id16 vmId, CancellationToken cancellationToken) =>
        database.ReadAsync(
            connection =>
            {
                using var statement = connection.Prepare("SELECT coalesce(sum(new_bytes), 0), coalesce(sum(stored_bytes), 0) FROM run WHERE vm_id = ?1 AND finished = 0");
                return statement.Bind(1, vmId).Step() ? (statement.GetInt64(0), statement.GetInt64(1)) : default;
            },
            cancellationToken);

    /// <summary>Stores a finished run in place of what was known of it.</summary>
    /// <param name="run">The run.</param>
    /// <param name="isCommitted">Its point exists: what unfinished runs sent is counted in it, and they are deleted.</param>
    /// <param name="cancellationToken">Stops before the transaction.</param>
    public ValueTask SaveAsync(RunRow run, bool isCommitted, CancellationToken cancellationToken) =>
        database.WriteAsync(
            connection =>
            {
                using (var statement = Insert(
                    connection, run, isFinished: true,
                    "ended_ms = ?3, logical_bytes = ?4, grown_bytes = ?5, new_bytes = ?6, stored_bytes = ?7, cut = ?8, comparable = ?9, verdict = ?10, usual_new = ?11, usual_stored = ?12, held = ?13, audited_bytes = ?14, audit_misses = ?15, finished = ?16"))
                {
                    statement.Execute();
                }
                if (!isCommitted)
                {
                    return;
                }
                using (var unfinished = connection.Prepare("DELETE FROM run WHERE vm_id = ?1 AND finished = 0"))
                {
                    unfinished.Bind(1, run.VmId).Execute();
                }
                using var old = connection.Prepare(
                    """
                    DELETE FROM run WHERE vm_id = ?1 AND verdict <> ?2 AND ended_ms <=
                        (SELECT ended_ms FROM run WHERE vm_id = ?1 ORDER BY ended_ms DESC, point_id DESC LIMIT 1 OFFSET ?3)
                    """);
                old.Bind(1, run.VmId).Bind(2, (long)RunVerdict.Abnormal).Bind(3, CountMax).Execute();
            },
            cancellationToken);

    /// <summary>The machine's finished runs, newest first.</summary>
    public ValueTask<List<RunRow>> ListAsync(Id16 vmId, int count, CancellationToken cancellationToken) =>
        database.ReadAsync(
            connection =>
            {
                using var statement = connection.Prepare($"SELECT {Columns} FROM run WHERE vm_id = ?1 AND finished = 1 ORDER BY ended_ms DESC, point_id DESC LIMIT ?2");
                return ReadAll(statement.Bind(1, vmId).Bind(2, count));
            },
            cancellationToken);

    /// <summary>Abnormal runs that nobody has accepted, oldest first; of one machine, or of all.</summary>
    public ValueTask<List<RunRow>> ListAbnormalAsync(Id16? vmId, CancellationToken cancellationToken) =>
        database.ReadAsync(
            connection =>
            {
                using var statement = connection.Prepare($"SELECT {Columns} FROM run WHERE verdict = 2{(vmId is null ? "" : " AND vm_id = ?1")} ORDER BY ended_ms, point_id");
                return ReadAll(vmId is { } id ? statement.Bind(1, id) : statement);
            },
            cancellationToken);

    /// <summary>Says that the machine's abnormal runs were meant. Returns how many there were.</summary>
    public ValueTask<int> AcceptAsync(Id16 vmId, CancellationToken cancellationToken) =>
        database.WriteAsync(
            connection =>
            {
                using var statement = connection.Prepare("UPDATE run SET verdict = ?2 WHERE vm_id = ?1 AND verdict = ?3");
                return statement.Bind(1, vmId).Bind(2, (long)RunVerdict.Accepted).Bind(3, (long)RunVerdict.Abnormal).Execute();
            },
            cancellationToken);

    private static IStatement Insert(ISqlConnection connection, RunRow run, bool isFinished, string update) =>
        connection.Prepare(
                $"INSERT INTO run ({Columns}, finished) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16) ON CONFLICT (point_id) DO UPDATE SET {update}")
            .Bind(1, run.PointId).Bind(2, run.VmId).Bind(3, run.EndedMs).Bind(4, run.LogicalBytes).Bind(5, run.GrownBytes).Bind(6, run.NewBytes).Bind(7, run.StoredBytes)
            .Bind(8, run.Cut).Bind(9, run.IsComparable ? 1 : 0).Bind(10, (long)run.Verdict).Bind(11, run.UsualNew).Bind(12, run.UsualStored).Bind(13, run.IsHeld ? 1 : 0)
            .Bind(14, run.AuditedBytes).Bind(15, run.AuditMisses).Bind(16, isFinished ? 1 : 0);

    private static List<RunRow> ReadAll(IStatement statement)
    {
        var rows = new List<RunRow>();
        while (statement.Step())
        {
            rows.Add(new RunRow
            {
                PointId = statement.GetId16(0), VmId = statement.GetId16(1), EndedMs = statement.GetInt64(2), LogicalBytes = statement.GetInt64(3),
                GrownBytes = statement.GetInt64(4), NewBytes = statement.GetInt64(5), StoredBytes = statement.GetInt64(6), Cut = statement.GetString(7)!,
                IsComparable = statement.GetInt64(8) != 0, Verdict = (RunVerdict)statement.GetInt64(9), UsualNew = (int)statement.GetInt64(10),
                UsualStored = (int)statement.GetInt64(11), IsHeld = statement.GetInt64(12) != 0, AuditedBytes = statement.GetInt64(13), AuditMisses = statement.GetInt64(14),
            });
        }
        return rows;
    }
}
