using VirtBackup.Core;
using VirtBackup.Database;

namespace VirtBackup.Catalog;

/// <summary>How far the cut of a group's run has come. Values are stored.</summary>
public enum GroupCutPhase
{
    /// <summary>Not all are cut yet.</summary>
    Cutting = 1,

    /// <summary>There is no cut; nothing was made.</summary>
    Failed = 2,

    /// <summary>All were cut: the run is a group's recovery point.</summary>
    Made = 3,
}

/// <summary>One run of a group's backup. Times are Unix milliseconds.</summary>
public sealed record GroupRunRow
{
    /// <summary>That of the run's job.</summary>
    public required Id16 RunId { get; init; }

    public required string Group { get; init; }

    public GroupCutPhase Phase { get; init; } = GroupCutPhase.Cutting;

    public required long StartedMs { get; init; }

    /// <summary>0 before the cut.</summary>
    public long CutMs { get; init; }

    /// <summary>Microseconds between the first cut and the last, at most.</summary>
    public long SkewUs { get; init; }

    /// <summary>The group's, when the run began.</summary>
    public required int SkewBoundMs { get; init; }

    /// <summary>By name.</summary>
    public required IReadOnlyList<GroupRunMember> Members { get; init; }
}

/// <summary>One machine in a run.</summary>
/// <param name="Held">It stood still while all were cut.</param>
public sealed record GroupRunMember(Id16 VmId, string VmName, string Agent, Id16 JobId, Id16 PointId, bool Held);

/// <summary>What the runs of groups made.</summary>
public sealed class GroupRunRecords(IDatabase database)
{
    private const string Columns = "run_id, name, state, started_ms, cut_ms, skew_us, skew_bound_ms";

    /// <summary>Stores the run in place of what was known of it.</summary>
    public ValueTask SaveAsync(GroupRunRow run, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(run);
        return database.WriteAsync(
            connection =>
            {
                using (var statement = connection.Prepare($"INSERT OR REPLACE INTO group_run ({Columns}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)"))
                {
                    statement.Bind(1, run.RunId).Bind(2, run.Group).Bind(3, (int)run.Phase).Bind(4, run.StartedMs).Bind(5, run.CutMs).Bind(6, run.SkewUs).Bind(7, run.SkewBoundMs).Execute();
                }
                foreach (var member in run.Members)
                {
                    using var statement = connection.Prepare(
                        "INSERT OR REPLACE INTO group_run_member (run_id, vm_id, vm_name, agent, job_id, point_id, held) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)");
                    statement.Bind(1, run.RunId).Bind(2, member.VmId).Bind(3, member.VmName).Bind(4, member.Agent).Bind(5, member.JobId).Bind(6, member.PointId)
                        .Bind(7, member.Held ? 1 : 0).Execute();
                }
            },
            cancellationToken);
    }

    public ValueTask<GroupRunRow?> FindAsync(Id16 runId, CancellationToken cancellationToken) =>
        database.ReadAsync(
            connection =>
            {
                using var statement = connection.Prepare($"SELECT {Columns} FROM group_run WHERE run_id = ?1");
                return ReadAll(connection, statement.Bind(1, runId)).FirstOrDefault();
            },
            cancellationToken);

    /// <summary>Runs that were cut, newest first; of one group, or with ids between the two.</summary>
    public ValueTask<List<GroupRunRow>> ListMadeAsync(string group, int count, CancellationToken cancellationToken) =>
        database.ReadAsync(
            connection =>
            {
                using var statement = connection.Prepare($"SELECT {Columns} FROM group_run WHERE name = ?1 AND state = 3 ORDER BY cut_ms DESC, run_id DESC LIMIT ?2");
                return ReadAll(connection, statement.Bind(1, group).Bind(2, count));
            },
            cancellationToken);

    /// <inheritdoc cref="ListMadeAsync"/>
    public ValueTask<List<GroupRunRow>> FindMadeByRangeAsync(Id16 first, Id16 last, int count, CancellationToken cancellationToken) =>
        database.ReadAsync(
            connection =>
            {
                using var statement = connection.Prepare($"SELECT {Columns} FROM group_run WHERE run_id >= ?1 AND run_id <= ?2 AND state = 3 ORDER BY run_id LIMIT ?3");
                return ReadAll(connection, statement.Bind(1, first).Bind(2, last).Bind(3, count));
            },
            cancellationToken);

    /// <summary>Runs whose cut a controller has not seen to its end.</summary>
    public ValueTask<List<GroupRunRow>> ListCuttingAsync(CancellationToken cancellationToken) =>
        database.ReadAsync(
            static connection =>
            {
                using var statement = connection.Prepare($"SELECT {Columns} FROM group_run WHERE state = 1 ORDER BY started_ms");
                return ReadAll(connection, statement);
            },
            cancellationToken);

    /// <summary>How many runs of the group were cut, and when the last one was.</summary>
    public ValueTask<(int Count, long? NewestMs)> SummariseAsync(string group, CancellationToken cancellationToken) =>
        database.ReadAsync(
            connection =>
            {
                using var statement = connection.Prepare("SELECT count(*), max(cut_ms) FROM group_run WHERE name = ?1 AND state = 3");
                return statement.Bind(1, group).Step() ? ((int)statement.GetInt64(0), statement.GetTime(1)) : default;
            },
            cancellationToken);

    private static List<GroupRunRow> ReadAll(ISqlConnection connection, IStatement statement)
    {
        var rows = new List<GroupRunRow>();
        while (statement.Step())
        {
            rows.Add(new GroupRunRow
            {
                RunId = statement.GetId16(0), Group = statement.GetString(1)!, Phase = (GroupCutPhase)statement.GetInt64(2), StartedMs = statement.GetInt64(3),
                CutMs = statement.GetInt64(4), SkewUs = statement.GetInt64(5), SkewBoundMs = (int)statement.GetInt64(6), Members = ReadMembers(connection, statement.GetId16(0)),
            });
        }
        return rows;
    }

    private static List<GroupRunMember> ReadMembers(ISqlConnection connection, Id16 runId)
    {
        var members = new List<GroupRunMember>();
        using var statement = connection.Prepare(
            "SELECT vm_id, vm_name, agent, job_id, point_id, held FROM group_run_member WHERE run_id = ?1 ORDER BY vm_name, vm_id");
        statement.Bind(1, runId);
        while (statement.Step())
        {
            members.Add(new GroupRunMember(
                statement.GetId16(0), statement.GetString(1)!, statement.GetString(2)!, statement.GetId16(3), statement.GetId16(4), statement.GetInt64(5) != 0));
        }
        return members;
    }
}
