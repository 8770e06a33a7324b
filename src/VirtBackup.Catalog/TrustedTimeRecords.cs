using VirtBackup.Database;

namespace VirtBackup.Catalog;

/// <summary>What is kept of the trusted time. All in milliseconds.</summary>
/// <param name="MarkMs">The time, Unix: it never goes back by itself.</param>
/// <param name="Boot">The host's boot in which it was written; empty: unknown.</param>
/// <param name="TicksMs">The boot clock at that moment.</param>
/// <param name="UnexplainedMs">Time that was taken from the wall clock without the boot clock's word, not yet made up for.</param>
/// <param name="IsDoubtful">The wall clock jumped ahead, and nobody has confirmed the time since.</param>
public sealed record TrustedTimeRow(long MarkMs, string Boot, long TicksMs, long UnexplainedMs, bool IsDoubtful);

/// <summary>The trusted time's one row.</summary>
public sealed class TrustedTimeRecords(IDatabase database)
{
    public ValueTask<TrustedTimeRow?> FindAsync(CancellationToken cancellationToken) =>
        database.ReadAsync(
            static connection =>
            {
                using var statement = connection.Prepare("SELECT mark_ms, boot, ticks_ms, unexplained_ms, doubtful FROM trusted_time WHERE id = 1");
                return statement.Step()
                    ? new TrustedTimeRow(statement.GetInt64(0), statement.GetString(1)!, statement.GetInt64(2), statement.GetInt64(3), statement.GetInt64(4) != 0)
                    : null;
            },
            cancellationToken);

    public ValueTask SaveAsync(TrustedTimeRow row, CancellationToken cancellationToken) =>
        database.WriteAsync(
            connection =>
            {
                using var statement = connection.Prepare(
                    """
                    INSERT INTO trusted_time (id, mark_ms, boot, ticks_ms, unexplained_ms, doubtful) VALUES (1, ?1, ?2, ?3, ?4, ?5)
                    ON CONFLICT (id) DO UPDATE SET mark_ms = ?1, boot = ?2, ticks_ms = ?3, unexplained_ms = ?4, doubtful = ?5
                    """);
                statement.Bind(1, row.MarkMs).Bind(2, row.Boot).Bind(3, row.TicksMs).Bind(4, row.UnexplainedMs).Bind(5, row.IsDoubtful ? 1 : 0).Execute();
            },
            cancellationToken);
}
