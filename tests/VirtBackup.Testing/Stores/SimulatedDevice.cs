namespace VirtBackup.Testing.Stores;

/// <summary>
/// A device with a volatile cache: what was written, named and removed so far, and how much of it a power loss cannot
/// take any more. Not safe for concurrent use.
/// </summary>
/// <remarks>
/// Model: bytes are durable after their file is flushed, changes of names after their folder is. Unflushed bytes may
/// survive in any 512-byte sectors, up to any length; of the unflushed changes to one name any first few may survive,
/// independently of other names (POSIX promises no more). Folders as such always exist: the store under test makes them
/// durable before it uses them.
/// </remarks>
internal sealed class SimulatedDevice
{
    private const int SectorBytes = 512;

    private readonly Dictionary<string, SimulatedFile> _names = new(StringComparer.Ordinal);
    private readonly Dictionary<string, SimulatedFile> _durableNames = new(StringComparer.Ordinal);
    private readonly List<NameChange> _pending = [];
    private readonly HashSet<SimulatedFile> _staged = [];

    public IEnumerable<string> Names => _names.Keys;

    public int StagedCount => _staged.Count;

    public long UsedBytes => _names.Values.Concat(_staged).Distinct().Sum(file => file.Length);

    public SimulatedFile? Find(string key) => _names.GetValueOrDefault(key);

    public SimulatedFile Create()
    {
        var file = new SimulatedFile();
        _staged.Add(file);
        return file;
    }

    public void Drop(SimulatedFile file) => _staged.Remove(file);

    public bool GiveName(string key, SimulatedFile file)
    {
        if (!_names.TryAdd(key, file))
        {
            return false;
        }
        _staged.Remove(file);
        _pending.Add(new NameChange(key, file));
        return true;
    }

    public bool RemoveName(string key)
    {
        if (!_names.Remove(key))
        {
            return false;
        }
        _pending.Add(new NameChange(key, null));
        return true;
    }

    /// <summary>The device changes what lies under a name, as if that had always been there; null: nothing lies there any more.</summary>
    public void Rot(string key, Func<byte[], byte[]?> change)
    {
        var file = _names[key];
        if (change(file.Bytes.ToArray()) is { } bytes)
        {
            file.Replace(bytes);
            return;
        }
        _names.Remove(key);
        _durableNames.Remove(key);
        _pending.RemoveAll(pending => pending.Key == key);
    }

    public void SyncFolderOf(string key)
    {
        var folder = FolderOf(key);
        foreach (var change in _pending.Where(change => FolderOf(change.Key) == folder))
        {
            change.ApplyTo(_durableNames);
        }
        _pending.RemoveAll(change => FolderOf(change.Key) == folder);
    }

    /// <summary>What a power loss leaves: everything in the result is durable.</summary>
    public SimulatedDevice LosePower(Random random)
    {
        var kept = new Dictionary<string, SimulatedFile>(_durableNames, StringComparer.Ordinal);
        foreach (var changes in _pending.GroupBy(change => change.Key).OrderBy(group => group.Key, StringComparer.Ordinal))
        {
            var survivors = random.Next(changes.Count() + 1);
            foreach (var change in changes.Take(survivors))
            {
                change.ApplyTo(kept);
            }
        }
        return Restart(kept.OrderBy(name => name.Key, StringComparer.Ordinal), file => Tear(file, random));
    }

    /// <summary>What a killed process leaves once its successor has flushed the file system: all names and bytes.</summary>
    public SimulatedDevice LoseProcess() => Restart(_names, file => file.Bytes.ToArray());

    private static SimulatedDevice Restart(IEnumerable<KeyValuePair<string, SimulatedFile>> names, Func<SimulatedFile, byte[]> contentOf)
    {
        var device = new SimulatedDevice();
        foreach (var (key, file) in names)
        {
            var survivor = new SimulatedFile();
            survivor.Append(contentOf(file));
            survivor.Sync();
            device._names.Add(key, survivor);
            device._durableNames.Add(key, survivor);
        }
        return device;
    }

    private static byte[] Tear(SimulatedFile file, Random random)
    {
        var unsynced = file.Length - file.SyncedLength;
        if (unsynced == 0)
        {
            return file.Bytes.ToArray();
        }
        // The new length may be on the device without the bytes, which then read as zero.
        var bytes = file.Bytes[..(file.SyncedLength + random.Next(unsynced + 1))].ToArray();
        for (var start = file.SyncedLength; start < bytes.Length;)
        {
            var end = Math.Min(bytes.Length, (start / SectorBytes + 1) * SectorBytes);
            if (random.Next(2) == 0)
            {
                Array.Clear(bytes, start, end - start);
            }
            start = end;
        }
        return bytes;
    }

    private static string FolderOf(string key) => key[..(key.LastIndexOf('/') + 1)];

    private readonly record struct NameChange(string Key, SimulatedFile? File)
    {
        public void ApplyTo(Dictionary<string, SimulatedFile> names)
        {
            if (File is null)
            {
                names.Remove(Key);
            }
            else
            {
                names[Key] = File;
            }
        }
    }
}

/// <summary>Bytes that are only ever appended, and how many of them are flushed.</summary>
internal sealed class SimulatedFile
{
    private byte[] _bytes = [];

    public int Length { get; private set; }

    public int SyncedLength { get; private set; }

    public ReadOnlySpan<byte> Bytes => _bytes.AsSpan(0, Length);

    public void Append(ReadOnlySpan<byte> source)
    {
        if (_bytes.Length - Length < source.Length)
        {
            Array.Resize(ref _bytes, Math.Max(Length + source.Length, 2 * _bytes.Length));
        }
        source.CopyTo(_bytes.AsSpan(Length));
        Length += source.Length;
    }

    public void Sync() => SyncedLength = Length;

    /// <summary>Durable at once.</summary>
    public void Replace(byte[] bytes)
    {
        _bytes = bytes;
        SyncedLength = Length = bytes.Length;
    }
}
