using VirtBackup.Database;
using VirtBackup.Repository.Collection;

namespace VirtBackup.Repository.Index;

/// <summary>The collector's checkpoint: which run, at which stage. Every stage finds what is left for it in the index itself.</summary>
/// <param name="Cycle">Number of the run.</param>
/// <param name="Stage">The stage that is under way, or <see cref="CollectionStage.None"/> after the last.</param>
/// <param name="StartedMs">Unix milliseconds.</param>
/// <param name="FinishedMs">When a run last came to its end, Unix milliseconds; 0: never.</param>
internal sealed record CollectionRow(long Cycle, CollectionStage Stage, long StartedMs, long FinishedMs)
{
    public static CollectionRow Read(ISqlConnection connection)
    {
        using var statement = connection.Prepare("SELECT cycle, stage, started_ms, finished_ms FROM collection");
        return statement.Step()
            ? new CollectionRow(statement.GetInt64(0), (CollectionStage)statement.GetInt64(1), statement.GetInt64(2), statement.GetInt64(3))
            : new CollectionRow(0, CollectionStage.None, 0, 0);
    }

    public void Write(ISqlConnection connection)
    {
        using var statement = connection.Prepare(
            """
            INSERT INTO collection(only_row, cycle, stage, started_ms, finished_ms) VALUES (1, ?1, ?2, ?3, ?4)
            ON CONFLICT(only_row) DO UPDATE SET
                cycle = excluded.cycle, stage = excluded.stage, started_ms = excluded.started_ms, finished_ms = excluded.finished_ms
            """);
        statement.Bind(1, Cycle).Bind(2, (long)Stage).Bind(3, StartedMs).Bind(4, FinishedMs).Execute();
    }
}
