using Microsoft.Win32.SafeHandles;
using VirtBackup.Core;

namespace VirtBackup.ObjectStores;

/// <summary>
/// A store's folder with what .NET offers on every system. Files are forced to stable storage; folders cannot be, so
/// that a power loss may take names which were given last (see README.md).
/// </summary>
internal sealed class PortableFolder : StoreFolder
{
    private readonly FileStream? _lock;
    private readonly bool _isOwner;
    private readonly Lock _naming = new();

    public PortableFolder(string root, LocalFolderOptions options)
        : base(root)
    {
        _isOwner = options.IsOwner;
        if (options.CreateFolder)
        {
            Try("create the folder", () => MakeFolder(root));
        }
        else if (!Directory.Exists(root))
        {
            throw new FaultException(FaultReason.NotFound, $"The repository folder {root} does not exist: mount its device, or create the repository first.");
        }
        if (!_isOwner)
        {
            return;
        }
        _lock = TakeLock();
        try
        {
            Try("clean its folder staging", () =>
            {
                MakeFolder(PathOf(StagingName));
                foreach (var path in Directory.EnumerateFiles(PathOf(StagingName)))
                {
                    File.Delete(path);
                }
            });
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    public override SafeFileHandle CreateStaged(string name)
    {
        RequireOwner();
        return Try("create a staged object", () =>
        {
            var path = StagedPath(name);
            var file = File.OpenHandle(path, FileMode.CreateNew, FileAccess.ReadWrite, FileShare.Read | FileShare.Delete);
            if (!OperatingSystem.IsWindows())
            {
                File.SetUnixFileMode(file, UnixFileMode.UserRead | UnixFileMode.UserWrite);
            }
            return file;
        });
    }

    public override void SyncFile(SafeFileHandle file) => Try("flush a staged object", () => RandomAccess.FlushToDisk(file));

    public override bool Publish(string stagedName, string key)
    {
        RequireOwner();
        return Try($"publish {key}", () =>
        {
            foreach (var folder in FoldersOf(key))
            {
                RefuseLink(folder, key);
                MakeFolder(PathOf(folder));
            }
            try
            {
                // Outside of Windows .NET looks for the name and takes it in two steps; nobody but us gives names here.
                lock (_naming)
                {
                    File.Move(StagedPath(stagedName), PathOf(key), overwrite: false);
                    return true;
                }
            }
            catch (IOException exception) when (StoreFaults.IsNameTaken(exception))
            {
                return false;
            }
        });
    }

    public override void RemoveStaged(string name) => Try("remove a staged object", () => File.Delete(StagedPath(name)));

    public override SafeFileHandle? OpenRead(string key) => Try($"open {key}", () =>
    {
        if (!Reaches(key) || !File.Exists(PathOf(key)))
        {
            return null;
        }
        try
        {
            return File.OpenHandle(PathOf(key), FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
        }
        catch (Exception exception) when (exception is FileNotFoundException or DirectoryNotFoundException)
        {
            return null;
        }
    });

    public override bool Delete(string key)
    {
        RequireOwner();
        return Try($"delete {key}", () =>
        {
            if (!Reaches(key) || !File.Exists(PathOf(key)))
            {
                return false;
            }
            File.Delete(PathOf(key));
            return true;
        });
    }

    public override bool FolderExists(string prefix) => Reaches(prefix) && Directory.Exists(PathOf(prefix));

    public override void Dispose() => _lock?.Dispose();

    private static void MakeFolder(string path)
    {
        if (OperatingSystem.IsWindows())
        {
            Directory.CreateDirectory(path);
        }
        else
        {
            Directory.CreateDirectory(path, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        }
    }

    private FileStream TakeLock()
    {
        try
        {
            return new FileStream(PathOf(LockName), FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None, bufferSize: 0);
        }
        catch (UnauthorizedAccessException exception)
        {
            throw Faults.FromException("open its lock file", exception);
        }
        catch (IOException exception)
        {
            throw new FaultException(FaultReason.RepositoryBusy, $"The repository {Root} is in use by another process: stop that process before opening it here.", exception);
        }
    }

    private bool Reaches(string key)
    {
        foreach (var folder in FoldersOf(key))
        {
            RefuseLink(folder, key);
            if (!Directory.Exists(PathOf(folder)))
            {
                return false;
            }
        }
        RefuseLink(key, key);
        return true;
    }

    private void RefuseLink(string path, string key)
    {
        if (new FileInfo(PathOf(path)) is { Attributes: var attributes } && attributes != (FileAttributes)(-1) && (attributes & FileAttributes.ReparsePoint) != 0)
        {
            throw Faults.FromErrno($"reach {key}", Errno.SymbolicLink);
        }
    }

    private void RequireOwner()
    {
        if (!_isOwner)
        {
            throw StoreFaults.OpenedForReading(Root);
        }
    }

    private string PathOf(string key) => Path.Combine(Root, key);

    private string StagedPath(string name) => Path.Combine(Root, StagingName, name);

    private void Try(string action, Action body) => Try(action, () =>
    {
        body();
        return true;
    });

    private T Try<T>(string action, Func<T> body)
    {
        try
        {
            return body();
        }
        catch (Exception exception) when (StoreFaults.IsSystemError(exception))
        {
            throw Faults.FromException(action, exception);
        }
    }
}
