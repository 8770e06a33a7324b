using VirtBackup.Core;

namespace VirtBackup.Database;

/// <summary>
/// The SQL port: one writer at a time, readers that see a snapshot. Safe for concurrent use. A body runs synchronously
/// from its first to its last statement, on the caller's thread; it must be short, and it must not call this database
/// again (a second write would wait for the first for ever).
/// </summary>
/// <remarks>
/// SQL given to it keeps to what SQLite and PostgreSQL share (<c>RETURNING</c>, <c>ON CONFLICT</c>, plain types);
/// parameters are written <c>?1</c>, <c>?2</c>. Failures are <see cref="FaultException"/>s:
/// <see cref="FaultReason.DeviceFull"/>, <see cref="FaultReason.Corrupt"/>, <see cref="FaultReason.RepositoryBusy"/>,
/// <see cref="FaultReason.AlreadyExists"/> (a unique key is taken), <see cref="FaultReason.Denied"/>,
/// <see cref="FaultReason.Unavailable"/>.
/// </remarks>
public interface IDatabase : IAsyncDisposable
{
    /// <summary>
    /// Runs <paramref name="body"/> in one transaction: committed and durable when the call returns, rolled back
    /// entirely when the body throws. Writers run one at a time, in the order in which they asked.
    /// </summary>
    /// <exception cref="OperationCanceledException">Cancelled before the commit began; nothing was changed.</exception>
    ValueTask<T> WriteAsync<T>(Func<ISqlConnection, T> body, CancellationToken cancellationToken);

    /// <summary>Runs <paramref name="body"/> on one snapshot of the committed data. Changing data in it is refused.</summary>
    ValueTask<T> ReadAsync<T>(Func<ISqlConnection, T> body, CancellationToken cancellationToken);

    /// <summary>
    /// Room beside the database for one piece of work that does not fit into memory. It is empty, belongs to no transaction,
    /// may be used inside a body, and is gone when it is disposed or the process ends. One at a time for each database.
    /// </summary>
    IScratch OpenScratch();
}

/// <summary>Bodies without a result.</summary>
public static class DatabaseExtensions
{
    /// <inheritdoc cref="IDatabase.WriteAsync"/>
    public static async ValueTask WriteAsync(this IDatabase database, Action<ISqlConnection> body, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(database);
        ArgumentNullException.ThrowIfNull(body);
        await database.WriteAsync(
            connection =>
            {
                body(connection);
                return true;
            },
            cancellationToken);
    }

    /// <inheritdoc cref="IDatabase.ReadAsync"/>
    public static async ValueTask ReadAsync(this IDatabase database, Action<ISqlConnection> body, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(database);
        ArgumentNullException.ThrowIfNull(body);
        await database.ReadAsync(
            connection =>
            {
                body(connection);
                return true;
            },
            cancellationToken);
    }
}
