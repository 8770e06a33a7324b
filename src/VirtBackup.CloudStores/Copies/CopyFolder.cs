using System.Security.Cryptography;
using System.Text;
using VirtBackup.CloudStores.Spool;
using VirtBackup.Core;

namespace VirtBackup.CloudStores.Copies;

/// <summary>
/// Copies of whole objects in a local folder that its owner has alone, up to a number of bytes; those that were not used for
/// longest go first. Nothing is lost with them: what cannot be kept or read is not there. What is read was compared with its
/// hash. Safe for concurrent use.
/// </summary>
internal sealed class CopyFolder
{
    /// <summary>More copies than this are not kept, however short they are.</summary>
    private const int CountMax = 1 << 16;

    private const string Ending = ".copy";

    private readonly Lock _gate = new();
    private readonly Dictionary<string, LinkedListNode<(string Name, long Length)>> _byName = [];
    private readonly LinkedList<(string Name, long Length)> _byUse = new();
    private readonly string _path;
    private readonly long _bytesMax;
    private long _bytes;

    private CopyFolder(string path, long bytesMax) => (_path, _bytesMax) = (path, bytesMax);

    /// <summary>Null: no copies can be kept there.</summary>
    public static CopyFolder? TryOpen(string path, long bytesMax)
    {
        var folder = new CopyFolder(Path.GetFullPath(path), bytesMax);
        try
        {
            if (OperatingSystem.IsWindows())
            {
                Directory.CreateDirectory(folder._path);
            }
            else
            {
                Directory.CreateDirectory(folder._path, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
            }
            foreach (var file in new DirectoryInfo(folder._path).GetFiles("*" + Ending).OrderBy(static file => file.LastWriteTimeUtc))
            {
                folder.Note(file.Name, file.Length);
            }
            folder.MakeRoom(0);
            return folder;
        }
        catch (Exception failure) when (failure is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }

    /// <summary>Reads up to so many bytes; fewer only at the object's end. Null: there is no copy that holds what was stored.</summary>
    public async ValueTask<int?> ReadAsync(string key, long offset, Memory<byte> destination, CancellationToken cancellationToken)
    {
        var name = NameOf(key);
        lock (_gate)
        {
            if (!_byName.TryGetValue(name, out var known))
            {
                return null;
            }
            _byUse.Remove(known);
            _byUse.AddFirst(known);
        }
        try
        {
            using var copy = CopyFile.Open(Path.Combine(_path, name), key);
            if (copy is not null && await copy.ReadAsync(offset, destination, cancellationToken) is { } count)
            {
                return count;
            }
        }
        catch (Exception failure) when (failure is IOException or UnauthorizedAccessException)
        {
            // As good as none.
        }
        Drop(key);
        return null;
    }

    /// <summary>Whether the device has space for a copy of so many bytes.</summary>
    public bool HasSpaceFor(long length)
    {
        try
        {
            return HasSpace(length + CopyFile.TableLength(length));
        }
        catch (Exception failure) when (failure is IOException or UnauthorizedAccessException)
        {
            return false;
        }
    }

    /// <summary>Makes a spooled object a copy, if there is room for it. It can only be disposed afterwards.</summary>
    /// <returns>False: there is no copy.</returns>
    public async ValueTask<bool> AddAsync(string key, SpooledContent content, CancellationToken cancellationToken)
    {
        var name = NameOf(key);
        var path = Path.Combine(_path, name);
        try
        {
            var length = content.Length + CopyFile.TableLength(content.Length);
            if (!MakeRoom(length) || !HasSpace(length))
            {
                return false;
            }
            await CopyFile.FinishAsync(content, key, cancellationToken);
            content.MoveTo(path);
            Note(name, length);
            return true;
        }
        catch (Exception failure) when (failure is IOException or UnauthorizedAccessException or FaultException)
        {
            // It is asked of the provider again.
            return false;
        }
    }

    public void Drop(string key)
    {
        var name = NameOf(key);
        lock (_gate)
        {
            if (_byName.Remove(name, out var known))
            {
                _byUse.Remove(known);
                _bytes -= known.Value.Length;
            }
        }
        Delete(name);
    }

    private void Note(string name, long length)
    {
        lock (_gate)
        {
            if (_byName.TryGetValue(name, out var known))
            {
                _byUse.Remove(known);
                _bytes -= known.Value.Length;
            }
            _byName[name] = _byUse.AddFirst((name, length));
            _bytes += length;
        }
    }

    private bool MakeRoom(long length)
    {
        if (length > _bytesMax)
        {
            return false;
        }
        while (true)
        {
            string oldest;
            lock (_gate)
            {
                if ((_bytes + length <= _bytesMax && _byName.Count < CountMax) || _byUse.Last is not { } last)
                {
                    return true;
                }
                (oldest, var bytes) = last.Value;
                _byUse.RemoveLast();
                _byName.Remove(oldest);
                _bytes -= bytes;
            }
            Delete(oldest);
        }
    }

    /// <summary>The device is not the copies' alone: objects on their way to the provider need it more.</summary>
    private bool HasSpace(long length) => new DriveInfo(_path).AvailableFreeSpace - length >= SpoolFolder.FreeBytesMin;

    private void Delete(string name)
    {
        try
        {
            File.Delete(Path.Combine(_path, name));
        }
        catch (Exception failure) when (failure is IOException or UnauthorizedAccessException)
        {
            // It is found again when the folder is opened next.
        }
    }

    // Keys can be longer than names of files.
    private static string NameOf(string key) => Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(key))) + Ending;
}
