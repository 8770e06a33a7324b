using Microsoft.Win32.SafeHandles;
using VirtBackup.Core;

namespace VirtBackup.ObjectStores;

/// <summary>
/// The file operations below one root folder that a store is made of. Keys are valid when they get here; no operation
/// follows a symbolic link below the root. Safe for concurrent use. Failures are <see cref="FaultException"/>s.
/// </summary>
internal abstract class StoreFolder(string root) : IDisposable
{
    public const string StagingName = "staging";
    public const string LockName = "lock";

    public string Root { get; } = root;

    public StoreFaults Faults { get; } = new(root);

    public static StoreFolder Open(string root, LocalFolderOptions options) =>
        OperatingSystem.IsLinux() && !options.PortableOnly ? new LinuxFolder(root, options) : new PortableFolder(root, options);

    /// <summary>Creates an empty staged file for its owner alone.</summary>
    public abstract SafeFileHandle CreateStaged(string name);

    /// <summary>Has the system begin to write a growing file out; a hint, which never fails. A device's error is told by <see cref="SyncFile"/>.</summary>
    public virtual void BeginWriteBack(SafeFileHandle file)
    {
    }

    /// <summary>Forces a file's bytes and length to stable storage.</summary>
    public abstract void SyncFile(SafeFileHandle file);

    /// <summary>
    /// Gives a staged file its key, durably, or returns false when the key is taken, durably as well. The folders of the
    /// key are created.
    /// </summary>
    public abstract bool Publish(string stagedName, string key);

    public abstract void RemoveStaged(string name);

    /// <summary>Null when there is no such file.</summary>
    public abstract SafeFileHandle? OpenRead(string key);

    /// <summary>Removes the file durably; false when there is none.</summary>
    public abstract bool Delete(string key);

    /// <summary>Whether <paramref name="prefix"/> (without its last '/') is a folder, reached without a symbolic link.</summary>
    public abstract bool FolderExists(string prefix);

    public abstract void Dispose();

    /// <summary>The folders of a key, outermost first: "a/b/c" has "a" and "a/b".</summary>
    protected static IEnumerable<string> FoldersOf(string key)
    {
        for (var slash = key.IndexOf('/'); slash >= 0; slash = key.IndexOf('/', slash + 1))
        {
            yield return key[..slash];
        }
    }

    protected static string LastSegment(string key) => key[(key.LastIndexOf('/') + 1)..];
}
