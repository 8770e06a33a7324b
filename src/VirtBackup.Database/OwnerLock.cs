using VirtBackup.Core;

namespace VirtBackup.Database;

/// <summary>
/// A locked file beside the database. The operating system drops the lock with the process, however it ends; the empty
/// file stays, because removing it would let two processes lock different files of one name.
/// </summary>
internal sealed class OwnerLock : IDisposable
{
    private readonly FileStream _file;

    private OwnerLock(FileStream file) => _file = file;

    /// <exception cref="FaultException"><see cref="FaultReason.RepositoryBusy"/>, <see cref="FaultReason.Denied"/>, <see cref="FaultReason.Unavailable"/>.</exception>
    public static OwnerLock Take(string databasePath)
    {
        var path = databasePath + ".lock";
        CreateOwnerOnly(path);
        try
        {
            return new OwnerLock(new FileStream(path, FileMode.Open, FileAccess.ReadWrite, FileShare.None, bufferSize: 0));
        }
        catch (IOException exception)
        {
            throw new FaultException(
                FaultReason.RepositoryBusy,
                $"The database {databasePath} is in use by another process, which holds {path}: stop that process and try again.", exception);
        }
    }

    /// <summary>Makes the file if it is missing, readable and writable by this user alone. SQLite gives its log the same mode.</summary>
    public static void CreateOwnerOnly(string path)
    {
        var options = new FileStreamOptions
        {
            Mode = FileMode.CreateNew, Access = FileAccess.Write, Share = FileShare.ReadWrite, BufferSize = 0,
        };
        if (!OperatingSystem.IsWindows())
        {
            options.UnixCreateMode = UnixFileMode.UserRead | UnixFileMode.UserWrite;
        }
        try
        {
            new FileStream(path, options).Dispose();
        }
        catch (UnauthorizedAccessException exception)
        {
            throw new FaultException(FaultReason.Denied, $"The file {path} cannot be created: check the owner and the permissions of its folder.", exception);
        }
        catch (IOException) when (Path.Exists(path))
        {
            // It is there already.
        }
        catch (IOException exception)
        {
            throw new FaultException(FaultReason.Unavailable, $"The file {path} cannot be created: check that its folder exists and has space.", exception);
        }
    }

    public void Dispose() => _file.Dispose();
}
