using System.IO.Enumeration;
using System.Runtime.CompilerServices;
using VirtBackup.Core;

namespace VirtBackup.ObjectStores;

/// <summary>
/// Objects as files of a local folder: <c>&lt;root&gt;/&lt;key&gt;</c>, written under <c>&lt;root&gt;/staging</c> first.
/// One process owns the folder at a time (<c>&lt;root&gt;/lock</c>). Files and folders are their owner's alone. Safe for
/// concurrent use. Flushing blocks the calling thread while the device works.
/// </summary>
public sealed class LocalFolderStore : IObjectStore, IDisposable
{
    private readonly StoreFolder _folder;
    private readonly IEntropy _entropy;
    private readonly ReadHandleCache _files;

    private LocalFolderStore(StoreFolder folder, LocalFolderOptions options)
    {
        _folder = folder;
        _entropy = options.Entropy;
        _files = new ReadHandleCache(options.OpenFilesMax, folder.OpenRead);
    }

    /// <exception cref="FaultException">
    /// <see cref="FaultReason.NotFound"/>: no such folder; <see cref="FaultReason.RepositoryBusy"/>: another process owns it;
    /// <see cref="FaultReason.Denied"/>.
    /// </exception>
    public static LocalFolderStore Open(string root, LocalFolderOptions? options = null)
    {
        ArgumentException.ThrowIfNullOrEmpty(root);
        options ??= new LocalFolderOptions();
        Check.That(options.OpenFilesMax > 0);
        return new LocalFolderStore(StoreFolder.Open(Path.TrimEndingDirectorySeparator(Path.GetFullPath(root)), options), options);
    }

    public ValueTask<IObjectWriter> CreateAsync(CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        var name = Id16.Create(_entropy).ToString();
        return ValueTask.FromResult<IObjectWriter>(new LocalFolderWriter(_folder, name));
    }

    public async ValueTask<int> ReadAsync(string key, long offset, Memory<byte> destination, CancellationToken cancellationToken)
    {
        ObjectKey.Require(key);
        ArgumentOutOfRangeException.ThrowIfNegative(offset);
        cancellationToken.ThrowIfCancellationRequested();
        var entry = _files.Rent(key) ?? throw new FaultException(FaultReason.NotFound, $"The object {key} is not in the repository {_folder.Root}.");
        try
        {
            // Behind every possible end; the system refuses ranges that do not fit its offsets.
            if (offset > long.MaxValue - destination.Length)
            {
                return 0;
            }
            var total = 0;
            while (total < destination.Length)
            {
                var count = await RandomAccess.ReadAsync(entry.File, destination[total..], offset + total, cancellationToken);
                if (count == 0)
                {
                    break;
                }
                total += count;
            }
            return total;
        }
        catch (Exception exception) when (StoreFaults.IsSystemError(exception))
        {
            throw _folder.Faults.FromException($"read {key}", exception);
        }
        finally
        {
            _files.Return(entry);
        }
    }

    public ValueTask<ObjectInfo?> FindAsync(string key, CancellationToken cancellationToken)
    {
        ObjectKey.Require(key);
        cancellationToken.ThrowIfCancellationRequested();
        using var file = _folder.OpenRead(key);
        return ValueTask.FromResult<ObjectInfo?>(file is null ? null : new ObjectInfo(key, RandomAccess.GetLength(file)));
    }

    public async IAsyncEnumerable<ObjectInfo> ListAsync(string prefix, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        ObjectKey.RequirePrefix(prefix);
        cancellationToken.ThrowIfCancellationRequested();
        await Task.CompletedTask;
        if (prefix.Length > 0 && !_folder.FolderExists(prefix[..^1]))
        {
            yield break;
        }
        using var entries = Enumerate(Path.Combine(_folder.Root, prefix)).GetEnumerator();
        while (Next(entries, prefix))
        {
            cancellationToken.ThrowIfCancellationRequested();
            if (entries.Current is { } info)
            {
                yield return info;
            }
        }
    }

    public ValueTask<bool> DeleteAsync(string key, CancellationToken cancellationToken)
    {
        ObjectKey.Require(key);
        cancellationToken.ThrowIfCancellationRequested();
        try
        {
            return ValueTask.FromResult(_folder.Delete(key));
        }
        finally
        {
            _files.Remove(key);
        }
    }

    public string Location => $"the repository {_folder.Root}";

    public ValueTask<long?> GetFreeBytesAsync(CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        return ValueTask.FromResult(_folder.Faults.FreeBytes());
    }

    /// <summary>Closes the files and gives up the folder. Writers that are still open fail.</summary>
    public void Dispose()
    {
        _files.Dispose();
        _folder.Dispose();
    }

    private bool Next(IEnumerator<ObjectInfo?> entries, string prefix)
    {
        try
        {
            return entries.MoveNext();
        }
        catch (Exception exception) when (StoreFaults.IsSystemError(exception))
        {
            throw _folder.Faults.FromException($"list {prefix}", exception);
        }
    }

    /// <summary>
    /// Walks the files below <paramref name="start"/> one at a time; only the names of folders still to visit are held.
    /// Symbolic links and names that are no keys are passed over. A null is a file that vanished meanwhile.
    /// </summary>
    private FileSystemEnumerable<ObjectInfo?> Enumerate(string start)
    {
        var root = _folder.Root;
        var options = new EnumerationOptions { RecurseSubdirectories = true, AttributesToSkip = 0, IgnoreInaccessible = false };
        return new FileSystemEnumerable<ObjectInfo?>(start, (ref FileSystemEntry entry) => Describe(root, ref entry), options)
        {
            ShouldIncludePredicate = (ref FileSystemEntry entry) => !entry.IsDirectory && IsOurs(root, ref entry),
            ShouldRecursePredicate = (ref FileSystemEntry entry) => IsOurs(root, ref entry),
        };
    }

    private static bool IsOurs(string root, ref FileSystemEntry entry) =>
        (entry.Attributes & FileAttributes.ReparsePoint) == 0 && ObjectKey.IsValid(KeyOf(root, ref entry));

    private static ObjectInfo? Describe(string root, ref FileSystemEntry entry)
    {
        var length = entry.Length;
        // The system reports 0 for a file that was deleted after its name was read.
        return length == 0 && !File.Exists(entry.ToFullPath()) ? null : new ObjectInfo(KeyOf(root, ref entry), length);
    }

    private static string KeyOf(string root, ref FileSystemEntry entry)
    {
        var relative = entry.ToFullPath().AsSpan(root.Length).TrimStart(Path.DirectorySeparatorChar).ToString();
        return Path.DirectorySeparatorChar == '/' ? relative : relative.Replace(Path.DirectorySeparatorChar, '/');
    }
}
