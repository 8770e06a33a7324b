using SQLitePCL;
using VirtBackup.Core;

namespace VirtBackup.Database;

/// <summary>
/// Turns SQLite's result codes (https://sqlite.org/rescode.html) into failures that people can act on.
/// </summary>
internal static class SqliteFaults
{
    private const int PrimaryCodeMask = 0xff;

    public static Exception Translate(sqlite3? connection, int code, string path)
    {
        var extended = connection is null ? code : raw.sqlite3_extended_errcode(connection);
        if ((extended & PrimaryCodeMask) != (code & PrimaryCodeMask))
        {
            extended = code;
        }
        var detail = connection is null ? raw.sqlite3_errstr(code).utf8_to_string() : raw.sqlite3_errmsg(connection).utf8_to_string();
        return (code & PrimaryCodeMask) switch
        {
            raw.SQLITE_INTERRUPT => new OperationCanceledException($"The operation on the database {path} was cancelled."),
            raw.SQLITE_FULL => new FaultException(
                FaultReason.DeviceFull, $"The device that holds the database {path} is full: free space there and try again."),
            raw.SQLITE_CORRUPT or raw.SQLITE_NOTADB => new FaultException(
                FaultReason.Corrupt,
                $"The database {path} is damaged or not a database ({detail}): move the file away and rebuild it from the repository, or restore it from a copy."),
            raw.SQLITE_BUSY or raw.SQLITE_LOCKED => new FaultException(
                FaultReason.RepositoryBusy, $"The database {path} is locked by another process: stop that process and try again."),
            raw.SQLITE_READONLY or raw.SQLITE_PERM or raw.SQLITE_AUTH => new FaultException(
                FaultReason.Denied, $"The database {path} cannot be written ({detail}): check its owner, its permissions and whether its file system is read-only."),
            raw.SQLITE_CANTOPEN => new FaultException(
                FaultReason.Unavailable, $"The database {path} cannot be opened: check that its folder exists and that this user may write there."),
            raw.SQLITE_IOERR => new FaultException(
                FaultReason.Unavailable,
                $"The device that holds the database {path} failed ({detail}, code {extended}): check the device, then restart the program."),
            raw.SQLITE_CONSTRAINT when extended is raw.SQLITE_CONSTRAINT_UNIQUE or raw.SQLITE_CONSTRAINT_PRIMARYKEY => new FaultException(
                FaultReason.AlreadyExists, $"The database {path} holds such a row already ({detail})."),
            _ => new InvariantException($"SQLite refused a statement on {path}: {detail} (code {extended})."),
        };
    }

    /// <summary>After a device error what the file holds is uncertain until it has been opened anew.</summary>
    public static bool IsDeviceFailure(int code) => (code & PrimaryCodeMask) == raw.SQLITE_IOERR;
}
