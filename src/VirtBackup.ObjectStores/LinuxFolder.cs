using System.Globalization;
using System.Runtime.InteropServices;
using System.Runtime.Versioning;
using System.Text;
using Microsoft.Win32.SafeHandles;
using VirtBackup.Core;

namespace VirtBackup.ObjectStores;

/// <summary>
/// A store's folder on Linux. Every path is walked from the open root, one name at a time, without following symbolic
/// links; names appear by renameat2 without overwriting, or by link where a file system lacks that; each change of a
/// folder is forced to stable storage before it is reported.
/// </summary>
[SupportedOSPlatform("linux")]
internal sealed class LinuxFolder : StoreFolder
{
    private const uint FileMode = 0b110_000_000; // 0600
    private const uint FolderMode = 0b111_000_000; // 0700
    private const int DurableFoldersMax = 1 << 16;

    private readonly SafeFileHandle _root;
    private readonly SafeFileHandle? _staging;
    private readonly SafeFileHandle? _lock;
    private readonly Lock _creating = new();
    private readonly HashSet<string> _durableFolders = new(StringComparer.Ordinal);
    private volatile bool _isBroken;
    private volatile bool _renameUnsupported;

    public LinuxFolder(string root, LocalFolderOptions options)
        : base(root)
    {
        if (options.CreateFolder && !Directory.Exists(root))
        {
            CreateRoot(root);
        }
        _renameUnsupported = options.LinkOnly;
        _root = OpenRoot(root);
        if (!options.IsOwner)
        {
            return;
        }
        try
        {
            _lock = TakeLock();
            MakeFolder(_root, StagingName);
            _staging = OpenFolderAt(_root, StagingName) ?? throw Faults.FromErrno("open its folder staging", Errno.NoSuchFile);
            foreach (var path in Directory.EnumerateFiles(Path.Combine(root, StagingName)))
            {
                RemoveStaged(Path.GetFileName(path));
            }
            // What a killed process had named but not yet forced out becomes durable before anybody builds on it.
            Require(LinuxCalls.SyncFileSystem(_root), "flush its file system");
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    private SafeFileHandle Staging => _staging ?? throw StoreFaults.OpenedForReading(Root);

    public override SafeFileHandle CreateStaged(string name)
    {
        var flags = LinuxCalls.ReadWrite | LinuxCalls.Create | LinuxCalls.OnlyNew | LinuxCalls.CloseOnExec | LinuxCalls.NoFollow;
        return Handle(LinuxCalls.OpenAt(Staging, name, flags, FileMode), "create a staged object");
    }

    public override void BeginWriteBack(SafeFileHandle file) => _ = LinuxCalls.SyncFileRange(file, 0, 0, LinuxCalls.BeginWriting);

    public override void SyncFile(SafeFileHandle file) => Require(LinuxCalls.Sync(file), "flush a staged object");

    public override bool Publish(string stagedName, string key)
    {
        RequireHealthy();
        using var folder = OpenDurableFolder(key);
        var isNew = GiveName(stagedName, folder ?? _root, LastSegment(key), key);
        // Also for a name that was there before: whoever gave it may not have got this far.
        SyncFolder(folder ?? _root);
        return isNew;
    }

    public override void RemoveStaged(string name)
    {
        if (LinuxCalls.UnlinkAt(Staging, name, 0) != 0 && LastErrno is var errno and not Errno.NoSuchFile)
        {
            throw Faults.FromErrno("remove a staged object", errno);
        }
    }

    public override SafeFileHandle? OpenRead(string key)
    {
        if (!TryOpenParent(key, out var folder))
        {
            return null;
        }
        using (folder)
        {
            // Non-blocking, so that a pipe put there by somebody cannot hang us.
            var flags = LinuxCalls.ReadOnly | LinuxCalls.CloseOnExec | LinuxCalls.NoFollow | LinuxCalls.NonBlocking;
            var descriptor = LinuxCalls.OpenAt(folder ?? _root, LastSegment(key), flags, 0);
            if (descriptor < 0)
            {
                return LastErrno is var errno and not Errno.NoSuchFile ? throw Faults.FromErrno($"open {key}", errno) : null;
            }
            var file = new SafeFileHandle(descriptor, ownsHandle: true);
            if ((File.GetAttributes(file) & FileAttributes.Directory) == 0)
            {
                return file;
            }
            file.Dispose();
            return null;
        }
    }

    public override bool Delete(string key)
    {
        _ = Staging;
        RequireHealthy();
        if (!TryOpenParent(key, out var folder))
        {
            return false;
        }
        using (folder)
        {
            var isGone = LinuxCalls.UnlinkAt(folder ?? _root, LastSegment(key), 0) == 0;
            if (!isGone && LastErrno is var errno and not Errno.NoSuchFile)
            {
                throw Faults.FromErrno($"delete {key}", errno);
            }
            SyncFolder(folder ?? _root);
            return isGone;
        }
    }

    public override bool FolderExists(string prefix)
    {
        if (!TryOpenParent(prefix + "/x", out var folder))
        {
            return false;
        }
        folder?.Dispose();
        return true;
    }

    public override void Dispose()
    {
        _staging?.Dispose();
        _root.Dispose();
        // Last: nothing of ours happens in the folder any more.
        _lock?.Dispose();
    }

    private static int LastErrno => Marshal.GetLastPInvokeError();

    private void CreateRoot(string root)
    {
        try
        {
            Directory.CreateDirectory(root, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        }
        catch (Exception exception) when (StoreFaults.IsSystemError(exception))
        {
            throw Faults.FromException("create the folder", exception);
        }
        using var parent = OpenRoot(Path.GetDirectoryName(root) ?? root);
        SyncFolder(parent);
    }

    private SafeFileHandle OpenRoot(string path)
    {
        var descriptor = LinuxCalls.OpenAt(LinuxCalls.WorkingFolder, path, LinuxCalls.OnlyFolder | LinuxCalls.CloseOnExec, 0);
        if (descriptor >= 0)
        {
            return new SafeFileHandle(descriptor, ownsHandle: true);
        }
        throw LastErrno is var errno and not Errno.NoSuchFile
            ? Faults.FromErrno("open the folder", errno)
            : new FaultException(FaultReason.NotFound, $"The repository folder {path} does not exist: mount its device, or create the repository first.");
    }

    private SafeFileHandle TakeLock()
    {
        var flags = LinuxCalls.ReadWrite | LinuxCalls.Create | LinuxCalls.CloseOnExec | LinuxCalls.NoFollow | LinuxCalls.NonBlocking;
        var file = Handle(LinuxCalls.OpenAt(_root, LockName, flags, FileMode), "open its lock file");
        try
        {
            if (LinuxCalls.Lock(file, LinuxCalls.LockExclusiveNow) != 0)
            {
                throw LastErrno is var errno and not Errno.Again
                    ? Faults.FromErrno("lock the folder", errno)
                    : new FaultException(
                        FaultReason.RepositoryBusy, $"The repository {Root} is in use by {ReadLockHolder(file)}: stop that process before opening it here.");
            }
            RandomAccess.SetLength(file, 0);
            RandomAccess.Write(file, Encoding.UTF8.GetBytes(string.Create(CultureInfo.InvariantCulture, $"process {Environment.ProcessId} on {Environment.MachineName}\n")), 0);
            return file;
        }
        catch (Exception exception)
        {
            file.Dispose();
            throw StoreFaults.IsSystemError(exception) ? Faults.FromException("write its lock file", exception) : exception;
        }
    }

    private static string ReadLockHolder(SafeFileHandle file)
    {
        Span<byte> bytes = stackalloc byte[200];
        var text = Encoding.UTF8.GetString(bytes[..RandomAccess.Read(file, bytes, 0)]).Trim();
        return text.Length > 0 && !text.Any(char.IsControl) ? text : "another process";
    }

    private bool GiveName(string stagedName, SafeFileHandle folder, string name, string key)
    {
        if (!_renameUnsupported)
        {
            var errno = Rename(stagedName, folder, name);
            switch (errno)
            {
                case 0:
                    return true;
                case Errno.Exists:
                    return false;
                case Errno.Invalid or Errno.NotImplemented or Errno.NotSupported:
                    _renameUnsupported = true;
                    break;
                default:
                    throw Faults.FromErrno($"publish {key}", errno);
            }
        }
        if (LinuxCalls.LinkAt(Staging, stagedName, folder, name, 0) == 0)
        {
            RemoveStaged(stagedName);
            return true;
        }
        return LastErrno switch
        {
            Errno.Exists => false,
            Errno.NotPermitted or Errno.NotSupported or Errno.NotImplemented => throw new FaultException(
                FaultReason.Unsupported,
                $"The file system of the repository {Root} can neither rename without overwriting nor link files: keep the repository on ext4, XFS, Btrfs, ZFS or NFS."),
            var errno => throw Faults.FromErrno($"publish {key}", errno),
        };
    }

    private int Rename(string stagedName, SafeFileHandle folder, string name)
    {
        try
        {
            return LinuxCalls.RenameAt(Staging, stagedName, folder, name, LinuxCalls.RenameNoReplace) == 0 ? 0 : LastErrno;
        }
        catch (EntryPointNotFoundException)
        {
            return Errno.NotImplemented;
        }
    }

    /// <summary>
    /// The folder of a key, created where it is missing; null is the root. A folder counts as durable only after its
    /// parent was forced out by this instance: another thread, or a process that crashed, may have just created it.
    /// </summary>
    private SafeFileHandle? OpenDurableFolder(string key)
    {
        SafeFileHandle? parent = null;
        try
        {
            foreach (var path in FoldersOf(key))
            {
                lock (_creating)
                {
                    if (!_durableFolders.Contains(path))
                    {
                        MakeFolder(parent ?? _root, LastSegment(path));
                        SyncFolder(parent ?? _root);
                        if (_durableFolders.Count >= DurableFoldersMax)
                        {
                            _durableFolders.Clear();
                        }
                        _durableFolders.Add(path);
                    }
                }
                var child = OpenFolderAt(parent ?? _root, LastSegment(path)) ?? throw Faults.FromErrno($"open the folder {path}", Errno.NoSuchFile);
                parent?.Dispose();
                parent = child;
            }
            return parent;
        }
        catch
        {
            parent?.Dispose();
            throw;
        }
    }

    /// <summary>False when a folder of the key is missing. <paramref name="folder"/> is null for the root.</summary>
    private bool TryOpenParent(string key, out SafeFileHandle? folder)
    {
        folder = null;
        foreach (var path in FoldersOf(key))
        {
            SafeFileHandle? child;
            try
            {
                child = OpenFolderAt(folder ?? _root, LastSegment(path));
            }
            finally
            {
                folder?.Dispose();
            }
            folder = child;
            if (child is null)
            {
                return false;
            }
        }
        return true;
    }

    private SafeFileHandle? OpenFolderAt(SafeFileHandle parent, string name)
    {
        var flags = LinuxCalls.ReadOnly | LinuxCalls.OnlyFolder | LinuxCalls.NoFollow | LinuxCalls.CloseOnExec;
        var descriptor = LinuxCalls.OpenAt(parent, name, flags, 0);
        return descriptor >= 0 ? new SafeFileHandle(descriptor, ownsHandle: true)
            : LastErrno is var errno and not Errno.NoSuchFile ? throw Faults.FromErrno($"open the folder {name}", errno) : null;
    }

    private void MakeFolder(SafeFileHandle parent, string name)
    {
        if (LinuxCalls.MakeFolderAt(parent, name, FolderMode) != 0 && LastErrno is var errno and not Errno.Exists)
        {
            throw Faults.FromErrno($"create the folder {name}", errno);
        }
    }

    /// <summary>
    /// A failed flush is not repeated: the system may have dropped what it could not write, and a second call would
    /// report success. Nothing more is changed until the store has been opened anew.
    /// </summary>
    private void SyncFolder(SafeFileHandle folder)
    {
        if (LinuxCalls.Sync(folder) != 0)
        {
            var errno = LastErrno;
            _isBroken = true;
            throw Faults.FromErrno("flush a folder", errno);
        }
    }

    private void RequireHealthy()
    {
        if (_isBroken)
        {
            throw new FaultException(
                FaultReason.Unavailable, $"The repository {Root} is not changed any more after its device failed to flush a folder: check the device, then restart the program.");
        }
    }

    private SafeFileHandle Handle(int descriptor, string action) =>
        descriptor >= 0 ? new SafeFileHandle(descriptor, ownsHandle: true) : throw Faults.FromErrno(action, LastErrno);

    private void Require(int result, string action)
    {
        if (result != 0)
        {
            throw Faults.FromErrno(action, LastErrno);
        }
    }
}
