using Microsoft.Win32.SafeHandles;

namespace VirtBackup.ObjectStores;

/// <summary>
/// Open files by key, the least recently used closed first. A file in use is never closed: what was evicted or removed
/// meanwhile closes when its last reader is done. Safe for concurrent use.
/// </summary>
internal sealed class ReadHandleCache(int capacity, Func<string, SafeFileHandle?> open) : IDisposable
{
    private readonly Lock _gate = new();
    private readonly Dictionary<string, LinkedListNode<Entry>> _entries = new(StringComparer.Ordinal);
    private readonly LinkedList<Entry> _recent = [];
    private long _removals;
    private bool _disposed;

    /// <summary>The open file, or null when it does not exist. Give it back with <see cref="Return"/>.</summary>
    public Entry? Rent(string key)
    {
        long removals;
        lock (_gate)
        {
            ObjectDisposedException.ThrowIf(_disposed, this);
            if (_entries.TryGetValue(key, out var known))
            {
                _recent.Remove(known);
                _recent.AddFirst(known);
                known.Value.Users++;
                return known.Value;
            }
            removals = _removals;
        }
        var file = open(key);
        if (file is null)
        {
            return null;
        }
        var entry = new Entry(key, file) { Users = 1 };
        lock (_gate)
        {
            // A deletion that ran while the file was being opened may have been its own: it is used once, not kept.
            if (removals == _removals && !_disposed && !_entries.ContainsKey(key))
            {
                entry.IsCached = true;
                _entries.Add(key, _recent.AddFirst(entry));
                Trim();
            }
        }
        return entry;
    }

    public void Return(Entry entry)
    {
        lock (_gate)
        {
            entry.Users--;
            CloseIfUnused(entry);
        }
    }

    /// <summary>To be called after a file was deleted.</summary>
    public void Remove(string key)
    {
        lock (_gate)
        {
            _removals++;
            if (_entries.TryGetValue(key, out var node))
            {
                Evict(node);
            }
        }
    }

    public void Dispose()
    {
        lock (_gate)
        {
            _disposed = true;
            while (_recent.Last is { } node)
            {
                Evict(node);
            }
        }
    }

    private void Trim()
    {
        while (_recent.Count > capacity && _recent.Last is { } node)
        {
            Evict(node);
        }
    }

    private void Evict(LinkedListNode<Entry> node)
    {
        _recent.Remove(node);
        _entries.Remove(node.Value.Key);
        node.Value.IsCached = false;
        CloseIfUnused(node.Value);
    }

    private static void CloseIfUnused(Entry entry)
    {
        if (entry is { Users: 0, IsCached: false })
        {
            entry.File.Dispose();
        }
    }

    internal sealed class Entry(string key, SafeFileHandle file)
    {
        public string Key { get; } = key;

        public SafeFileHandle File { get; } = file;

        public int Users { get; set; }

        public bool IsCached { get; set; }
    }
}
