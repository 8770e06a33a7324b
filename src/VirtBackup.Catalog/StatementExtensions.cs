using VirtBackup.Database;

namespace VirtBackup.Catalog;

/// <summary>Columns that may be NULL.</summary>
internal static class StatementExtensions
{
    public static IStatement BindTime(this IStatement statement, int index, long? milliseconds) =>
        milliseconds is { } value ? statement.Bind(index, value) : statement.BindNull(index);

    public static long? GetTime(this IStatement statement, int column) => statement.IsNull(column) ? null : statement.GetInt64(column);
}
