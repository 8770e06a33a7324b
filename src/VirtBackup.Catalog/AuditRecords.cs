using VirtBackup.Core;
using VirtBackup.Database;

namespace VirtBackup.Catalog;

/// <summary>What audits of a machine's change tracking read again and found. Times are Unix milliseconds, 0: never.</summary>
public sealed record AuditRow
{
    public required Id16 VmId { get; init; }

    /// <summary>The point of the newest run that audited; empty: none did.</summary>
    public Id16 PointId { get; init; }

    public long EndedMs { get; init; }

    /// <summary>Blocks of 64 KiB that were called unchanged.</summary>
    public long UnchangedBlocks { get; init; }

    /// <summary>Of these read again and compared.</summary>
    public long AuditedBlocks { get; init; }

    public long AuditedBytes { get; init; }

    /// <summary>Runs in which every disk is to be read again whole.</summary>
    public int Runs { get; init; }

    /// <summary>Of the present rotation.</summary>
    public int RunsTaken { get; init; }

    /// <summary>Until it is whole.</summary>
    public int RunsLeft { get; init; }

    public long RotatedBytes { get; init; }

    public long RotationBytes { get; init; }

    /// <summary>The time limit left some for the next run.</summary>
    public bool IsCut { get; init; }

    /// <summary>Why a disk was not audited; empty: each was.</summary>
    public string Omitted { get; init; } = "";

    /// <summary>When every byte had last been read again.</summary>
    public long RotationMs { get; init; }

    /// <summary>A change was missed, and no full read has gone through since.</summary>
    public long SuspectMs { get; init; }

    /// <summary>A change was missed, and nobody has accepted it yet.</summary>
    public long MissMs { get; init; }

    public string Miss { get; init; } = "";
}

/// <summary>The newest audit of each machine's change tracking, and the alert that one raised.</summary>
public sealed class AuditRecords(IDatabase database)
{
    private const string Columns =
        "vm_id, point_id, ended_ms, unchanged_blocks, audited_blocks, audited_bytes, runs, runs_taken, runs_left, rotated_bytes, rotation_bytes, cut, omitted, rotation_ms, suspect_ms, miss_ms, miss";

    private const string Places = "?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17";

    public ValueTask<AuditRow?> FindAsync(Id16 vmId, CancellationToken cancellationToken) =>
        database.ReadAsync(connection => Find(connection, vmId), cancellationToken);

    /// <summary>
    /// A run's point is committed, with what its audit did. The agent reads in full what it does not trust: the machine is
    /// not suspect any more. The alert stays until it is accepted.
    /// </summary>
    /// <param name="audit">Without the times of rotation, suspicion and miss; null: the run audited nothing.</param>
    /// <param name="miss">What the audit found; null: nothing.</param>
    public ValueTask NoteCommittedAsync(Id16 vmId, AuditRow? audit, string? miss, CancellationToken cancellationToken) =>
        database.WriteAsync(
            connection =>
            {
                var before = Find(connection, vmId);
                if ((audit ?? before) is not { } row)
                {
                    return;
                }
                Save(connection, row with
                {
                    RotationMs = audit is { RunsLeft: 0, RotationBytes: > 0 } && miss is null ? audit.EndedMs : before?.RotationMs ?? 0,
                    SuspectMs = 0,
                    MissMs = miss is null ? before?.MissMs ?? 0 : row.EndedMs,
                    Miss = miss ?? before?.Miss ?? "",
                });
            },
            cancellationToken);

    /// <summary>A run whose point is not committed has found a missed change: the machine is suspect. Nothing happens if it is already, or the point is there.</summary>
    public ValueTask NoteMissAsync(Id16 vmId, Id16 pointId, long nowMs, string miss, CancellationToken cancellationToken) =>
        database.WriteAsync(
            connection =>
            {
                using (var committed = connection.Prepare("SELECT 1 FROM point WHERE point_id = ?1"))
                {
                    if (committed.Bind(1, pointId).Step())
                    {
                        return;
                    }
                }
                var row = Find(connection, vmId) ?? new AuditRow { VmId = vmId };
                if (row.SuspectMs == 0)
                {
                    Save(connection, row with { SuspectMs = nowMs, MissMs = nowMs, Miss = miss });
                }
            },
            cancellationToken);

    /// <summary>Somebody has seen the alert. Returns whether there was one.</summary>
    public ValueTask<bool> AcceptAsync(Id16 vmId, CancellationToken cancellationToken) =>
        database.WriteAsync(
            connection =>
            {
                using var statement = connection.Prepare("UPDATE audit SET miss_ms = 0 WHERE vm_id = ?1 AND miss_ms <> 0");
                return statement.Bind(1, vmId).Execute() > 0;
            },
            cancellationToken);

    /// <summary>Machines that are suspect or have an alert.</summary>
    public ValueTask<int> CountAlertsAsync(CancellationToken cancellationToken) =>
        database.ReadAsync(
            static connection =>
            {
                using var statement = connection.Prepare("SELECT count(*) FROM audit WHERE miss_ms <> 0 OR suspect_ms <> 0");
                statement.Step();
                return (int)statement.GetInt64(0);
            },
            cancellationToken);

    private static AuditRow? Find(ISqlConnection connection, Id16 vmId)
    {
        using var statement = connection.Prepare($"SELECT {Columns} FROM audit WHERE vm_id = ?1");
        return !statement.Bind(1, vmId).Step() ? null : new AuditRow
        {
            VmId = vmId, PointId = statement.GetId16(1), EndedMs = statement.GetInt64(2), UnchangedBlocks = statement.GetInt64(3),
            AuditedBlocks = statement.GetInt64(4), AuditedBytes = statement.GetInt64(5), Runs = (int)statement.GetInt64(6), RunsTaken = (int)statement.GetInt64(7),
            RunsLeft = (int)statement.GetInt64(8), RotatedBytes = statement.GetInt64(9), RotationBytes = statement.GetInt64(10), IsCut = statement.GetInt64(11) != 0,
            Omitted = statement.GetString(12)!, RotationMs = statement.GetInt64(13), SuspectMs = statement.GetInt64(14), MissMs = statement.GetInt64(15),
            Miss = statement.GetString(16)!,
        };
    }

    private static void Save(ISqlConnection connection, AuditRow row)
    {
        using var statement = connection.Prepare($"INSERT OR REPLACE INTO audit ({Columns}) VALUES ({Places})");
        statement.Bind(1, row.VmId).Bind(2, row.PointId).Bind(3, row.EndedMs).Bind(4, row.UnchangedBlocks).Bind(5, row.AuditedBlocks).Bind(6, row.AuditedBytes)
            .Bind(7, row.Runs).Bind(8, row.RunsTaken).Bind(9, row.RunsLeft).Bind(10, row.RotatedBytes).Bind(11, row.RotationBytes).Bind(12, row.IsCut ? 1 : 0)
            .Bind(13, row.Omitted).Bind(14, row.RotationMs).Bind(15, row.SuspectMs).Bind(16, row.MissMs).Bind(17, row.Miss).Execute();
    }
}
