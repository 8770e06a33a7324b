using VirtBackup.Core;

namespace VirtBackup.Identity;

/// <summary>
/// One folder for each other controller that this one calls: <c>peers/NAME</c>, mode 0700, with what <see cref="PeerKeyStore"/>
/// says. A key is made here and never leaves. Safe for concurrent use, except for <see cref="Dispose"/>.
/// </summary>
public sealed class PeerKeyFolders : IDisposable
{
    /// <summary>A folder on its way out; no peer has a name that begins with a dot.</summary>
    private const string RemovedPrefix = ".removed.";

    private readonly Lock _lock = new();
    private readonly Dictionary<string, PeerKeyStore> _opened = new(StringComparer.Ordinal);
    private readonly string _folder;
    private readonly TimeProvider _time;

    /// <param name="folder">Made when the first peer is added.</param>
    /// <param name="time">The clock that certificates are judged by.</param>
    public PeerKeyFolders(string folder, TimeProvider time)
    {
        ArgumentException.ThrowIfNullOrEmpty(folder);
        ArgumentNullException.ThrowIfNull(time);
        _folder = Path.GetFullPath(folder);
        _time = time;
        if (Directory.Exists(_folder))
        {
            // What a crash left of a removal.
            foreach (var remains in Directory.GetDirectories(_folder, $"{RemovedPrefix}*"))
            {
                Delete(remains);
            }
        }
    }

    /// <summary>Whether a peer can have this name: it names a folder.</summary>
    public static bool IsName([System.Diagnostics.CodeAnalysis.NotNullWhen(true)] string? name) => PeerNames.IsName(name) && name[0] is not ('.' or '-');

    /// <summary>The peer's key and, if there is one, its certificate; what is missing of folder and key is made.</summary>
    /// <exception cref="FaultException">
    /// <see cref="FaultReason.InvalidArgument"/>: the name. Otherwise as opening an agent's: a file is damaged, or open to others.
    /// </exception>
    public PeerKeyStore LoadOrCreate(string name)
    {
        if (!IsName(name))
        {
            throw new FaultException(FaultReason.InvalidArgument, $"A peer's name has 1 to {PeerNames.NameLengthMax} characters of a-z, 0-9, '.' and '-', and begins with none of the last two.");
        }
        lock (_lock)
        {
            if (!_opened.TryGetValue(name, out var store))
            {
                var folder = Path.Combine(_folder, name);
                EnsureDurable(_folder);
                EnsureDurable(folder);
                store = new PeerKeyStore(folder, name, _time);
                _opened.Add(name, store);
            }
            return store;
        }
    }

    /// <summary>The peer's key and certificate; null when this controller was never admitted by it.</summary>
    /// <exception cref="FaultException">A file is damaged, or open to others.</exception>
    public PeerKeyStore? Find(string name)
    {
        if (!IsName(name) || !Directory.Exists(Path.Combine(_folder, name)))
        {
            return null;
        }
        var store = LoadOrCreate(name);
        return store.Identity is null ? null : store;
    }

    /// <summary>Forgets key and certificate for good; false when there are none. Connections that use them fail.</summary>
    public bool Remove(string name)
    {
        if (!IsName(name))
        {
            return false;
        }
        lock (_lock)
        {
            if (_opened.Remove(name, out var store))
            {
                store.Dispose();
            }
            var folder = Path.Combine(_folder, name);
            if (!Directory.Exists(folder))
            {
                return false;
            }
            // One step: after a power loss the peer is whole or gone.
            var removed = Path.Combine(_folder, RemovedPrefix + name);
            Delete(removed);
            PrivateFiles.MoveFolder(folder, removed);
            Delete(removed);
            return true;
        }
    }

    public void Dispose()
    {
        foreach (var store in _opened.Values)
        {
            store.Dispose();
        }
        _opened.Clear();
    }

    private static void EnsureDurable(string folder)
    {
        var isNew = !Directory.Exists(folder);
        PrivateFiles.EnsureFolder(folder);
        if (isNew)
        {
            PrivateFiles.FlushFolder(Path.GetDirectoryName(folder)!);
        }
    }

    private static void Delete(string folder)
    {
        if (Directory.Exists(folder))
        {
            PrivateFiles.DeleteFolder(folder);
        }
    }
}
