using VirtBackup.Core;
using VirtBackup.Database;

namespace VirtBackup.Repository.Index;

/// <summary>What the last audit of the counts found; none since the index was made: no row.</summary>
/// <param name="FinishedMs">Unix milliseconds.</param>
/// <param name="Problem">Why nothing may be deleted; null: nothing.</param>
/// <param name="Excess">Names the objects that were counted too often, and by how much; zero: none.</param>
internal sealed record AuditRow(long FinishedMs, string? Problem, Id32 Excess)
{
    public static AuditRow? Read(ISqlConnection connection)
    {
        using var statement = connection.Prepare("SELECT finished_ms, problem, excess FROM audit");
        return statement.Step() ? new AuditRow(statement.GetInt64(0), statement.GetString(1), statement.GetId32(2)) : null;
    }

    public void Write(ISqlConnection connection)
    {
        using var statement = connection.Prepare(
            """
            INSERT INTO audit(only_row, finished_ms, problem, excess) VALUES (1, ?1, ?2, ?3)
            ON CONFLICT(only_row) DO UPDATE SET finished_ms = excluded.finished_ms, problem = excluded.problem, excess = excluded.excess
            """);
        statement.Bind(1, FinishedMs).Bind(2, Problem).Bind(3, Excess).Execute();
    }
}
