using VirtBackup.Core;

namespace VirtBackup.Identity;

/// <summary>
/// One folder for each other controller that this one calls: <c>peers/NAME</c>, mode 0700, with what a <see cref="PeerKeyStore"/>
/// holds. A key is made here, never leaves, and lives as long as what it was admitted with: joining anew makes a new one. Safe
/// for concurrent use, except for <see cref="Dispose"/>; a peer is joined by one caller at a time.
/// </summary>
public sealed class PeerKeyFolders : IDisposable
{
    // No peer has a name that begins with a dot.
    private const string JoiningPrefix = ".joining.";
    private const string RemovedPrefix = ".removed.";

    private readonly Lock _lock = new();
    private readonly Dictionary<string, PeerKeyStore> _opened = new(StringComparer.Ordinal);
    private readonly string _folder;
    private readonly TimeProvider _time;

    /// <summary>Finishes what a crash cut short: a peer that was admitted stays so, and half of anything goes.</summary>
    /// <param name="folder">Made when the first peer is joined.</param>
    /// <param name="time">The clock that certificates are judged by.</param>
    public PeerKeyFolders(string folder, TimeProvider time)
    {
        ArgumentException.ThrowIfNullOrEmpty(folder);
        ArgumentNullException.ThrowIfNull(time);
        _folder = Path.GetFullPath(folder);
        _time = time;
        if (!Directory.Exists(_folder))
        {
            return;
        }
        foreach (var joining in Directory.GetDirectories(_folder, $"{JoiningPrefix}*"))
        {
            var name = Path.GetFileName(joining)[JoiningPrefix.Length..];
            // Whoever issued it has revoked the one before.
            if (IsName(name) && ClientKeyStore.HoldsCertificate(joining))
            {
                Replace(name);
            }
            else
            {
                PrivateFiles.DeleteFolder(joining);
            }
        }
        foreach (var removed in Directory.GetDirectories(_folder, $"{RemovedPrefix}*"))
        {
            PrivateFiles.DeleteFolder(removed);
        }
    }

    /// <summary>Whether a peer can have this name: it names a folder.</summary>
    public static bool IsName([System.Diagnostics.CodeAnalysis.NotNullWhen(true)] string? name) => PeerNames.IsName(name) && name[0] is not ('.' or '-');

    /// <exception cref="FaultException"><see cref="FaultReason.InvalidArgument"/>.</exception>
    public static void RequireName(string name)
    {
        if (!IsName(name))
        {
            throw new FaultException(FaultReason.InvalidArgument, $"A peer's name has 1 to {PeerNames.NameLengthMax} characters of a-z, 0-9, '.' and '-', and begins with a letter or a digit.");
        }
    }

    /// <summary>
    /// A new key for a peer that is about to admit this controller; nothing of it counts before <see cref="CompleteJoin"/>. The
    /// caller disposes it.
    /// </summary>
    /// <exception cref="FaultException"><see cref="FaultReason.InvalidArgument"/>: the name. Otherwise a folder cannot be used.</exception>
    public PeerKeyStore BeginJoin(string name)
    {
        RequireName(name);
        lock (_lock)
        {
            var joining = Path.Combine(_folder, JoiningPrefix + name);
            PrivateFiles.DeleteFolder(joining);
            EnsureDurable(_folder);
            EnsureDurable(joining);
            return new PeerKeyStore(joining, name, _time);
        }
    }

    /// <summary>Takes the key that was begun, and has its certificate by now, in place of an earlier one; durable when it returns.</summary>
    public void CompleteJoin(string name)
    {
        RequireName(name);
        lock (_lock)
        {
            Check.That(ClientKeyStore.HoldsCertificate(Path.Combine(_folder, JoiningPrefix + name)));
            _ = _opened.Remove(name);
            Replace(name);
            PrivateFiles.DeleteFolder(Path.Combine(_folder, RemovedPrefix + name));
        }
    }

    /// <summary>The peer's key and certificate, owned by this object; null when this controller was not admitted by it. Joining anew makes it another.</summary>
    /// <exception cref="FaultException">A file is damaged, or open to others.</exception>
    public PeerKeyStore? Find(string name)
    {
        if (!IsName(name))
        {
            return null;
        }
        lock (_lock)
        {
            if (!_opened.TryGetValue(name, out var store))
            {
                var folder = Path.Combine(_folder, name);
                if (!Directory.Exists(folder))
                {
                    return null;
                }
                store = new PeerKeyStore(folder, name, _time);
                _opened.Add(name, store);
            }
            return store.Identity is null ? null : store;
        }
    }

    /// <summary>Forgets key and certificate for good; false when there are none.</summary>
    public bool Remove(string name)
    {
        if (!IsName(name))
        {
            return false;
        }
        lock (_lock)
        {
            // Not disposed: a handshake may be using it.
            _ = _opened.Remove(name);
            var folder = Path.Combine(_folder, name);
            if (!Directory.Exists(folder))
            {
                return false;
            }
            MoveAway(name);
            PrivateFiles.DeleteFolder(Path.Combine(_folder, RemovedPrefix + name));
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

    private void Replace(string name)
    {
        if (Directory.Exists(Path.Combine(_folder, name)))
        {
            MoveAway(name);
        }
        PrivateFiles.MoveFolder(Path.Combine(_folder, JoiningPrefix + name), Path.Combine(_folder, name));
    }

    /// <summary>In one step: after a power loss a peer is whole or gone.</summary>
    private void MoveAway(string name)
    {
        var removed = Path.Combine(_folder, RemovedPrefix + name);
        PrivateFiles.DeleteFolder(removed);
        PrivateFiles.MoveFolder(Path.Combine(_folder, name), removed);
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
}
