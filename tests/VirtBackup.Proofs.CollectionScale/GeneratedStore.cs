using System.Runtime.CompilerServices;
using Microsoft.Win32.SafeHandles;
using VirtBackup.Core;
using VirtBackup.Format;
using VirtBackup.Format.Packs;
using VirtBackup.Format.Records;
using VirtBackup.Proofs.CollectionScale.Generation;

namespace VirtBackup.Proofs.CollectionScale;

/// <summary>
/// The objects of a generated repository: files of a folder, and data packs without bytes, which are listed and have a table
/// of contents. Reading more of one of those is a fault. Counts what is read. Nothing waits for the device.
/// </summary>
internal sealed class GeneratedStore(string folder, PackLayout layout) : IObjectStore, IDisposable
{
    private readonly string _root = Path.Combine(folder, RepositoryGenerator.ObjectsFolder);
    private readonly string _staging = Directory.CreateDirectory(Path.Combine(folder, "staging")).FullName;
    private (string Key, SafeFileHandle File)? _open;
    private int _staged;

    /// <summary>Bytes that were read of all objects.</summary>
    public long BytesRead { get; private set; }

    public ValueTask<IObjectWriter> CreateAsync(CancellationToken cancellationToken) =>
        ValueTask.FromResult<IObjectWriter>(new Writer(this, Path.Combine(_staging, $"{_staged++}")));

    public ValueTask<int> ReadAsync(string key, long offset, Memory<byte> destination, CancellationToken cancellationToken)
    {
        var read = 0;
        if (Open(key) is { } file)
        {
            read = RandomAccess.Read(file, destination.Span, offset);
        }
        else if (layout.Find(key) is { } pack)
        {
            read = ReadSuffix(key, pack, offset, destination.Span);
        }
        else
        {
            throw new FaultException(FaultReason.NotFound, $"There is no object {key}.");
        }
        BytesRead += read;
        return ValueTask.FromResult(read);
    }

    public ValueTask<ObjectInfo?> FindAsync(string key, CancellationToken cancellationToken)
    {
        var file = new FileInfo(Path.Combine(_root, key));
        ObjectInfo? found = file.Exists ? new ObjectInfo(key, file.Length) : layout.Find(key) is { } pack ? new ObjectInfo(key, layout.BytesOf(pack)) : null;
        return ValueTask.FromResult(found);
    }

    public async IAsyncEnumerable<ObjectInfo> ListAsync(string prefix, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        await Task.Yield();
        var files = new DirectoryInfo(Path.Combine(_root, prefix));
        foreach (var file in files.Exists ? files.EnumerateFiles("*", SearchOption.AllDirectories) : [])
        {
            cancellationToken.ThrowIfCancellationRequested();
            yield return new ObjectInfo(Path.GetRelativePath(_root, file.FullName), file.Length);
        }
        for (long number = 1; prefix == ObjectKeys.PacksPrefix && number <= layout.Packs; number++)
        {
            if (layout[number] is { IsReal: false } pack)
            {
                yield return new ObjectInfo(ObjectKeys.Pack(layout.HashOf(number)), layout.BytesOf(pack));
            }
        }
    }

    public ValueTask<bool> DeleteAsync(string key, CancellationToken cancellationToken)
    {
        Close();
        var path = Path.Combine(_root, key);
        var exists = File.Exists(path);
        File.Delete(path);
        return ValueTask.FromResult(exists);
    }

    public ValueTask<long?> GetFreeBytesAsync(CancellationToken cancellationToken) => ValueTask.FromResult<long?>(null);

    public void Dispose() => Close();

    private int ReadSuffix(string key, in DataPack pack, long offset, Span<byte> destination)
    {
        var suffix = PackFooter.Build(RecordKind.Data, layout.EntriesOf(pack), layout.BytesOf(pack) - PackFooter.SuffixLengthOf(pack.Count + pack.Dead));
        var from = offset - (layout.BytesOf(pack) - suffix.Length);
        // A guess may reach in front of the table of contents; what lies there is not looked at.
        Check.That(from > -PackFooter.SuffixGuessBytes, $"The record bytes of {key} do not exist.");
        var before = (int)Math.Min(destination.Length, Math.Max(0, -from));
        destination[..before].Clear();
        var count = (int)Math.Min(destination.Length - before, suffix.Length - Math.Max(0, from));
        suffix.AsSpan((int)Math.Max(0, from), count).CopyTo(destination[before..]);
        return before + count;
    }

    private SafeFileHandle? Open(string key)
    {
        if (_open is { } open && open.Key == key)
        {
            return open.File;
        }
        Close();
        var path = Path.Combine(_root, key);
        if (!File.Exists(path))
        {
            return null;
        }
        _open = (key, File.OpenHandle(path));
        return _open.Value.File;
    }

    private void Close()
    {
        _open?.File.Dispose();
        _open = null;
    }

    private sealed class Writer(GeneratedStore store, string path) : IObjectWriter
    {
        private readonly FileStream _file = new(path, FileMode.Create);

        public long Length => _file.Length;

        public ValueTask WriteAsync(ReadOnlyMemory<byte> source, CancellationToken cancellationToken) => _file.WriteAsync(source, cancellationToken);

        public async ValueTask<bool> PublishAsync(string key, CancellationToken cancellationToken)
        {
            await _file.DisposeAsync();
            var target = Path.Combine(store._root, key);
            if (File.Exists(target))
            {
                return false;
            }
            Directory.CreateDirectory(Path.GetDirectoryName(target)!);
            File.Move(path, target);
            return true;
        }

        public async ValueTask DisposeAsync()
        {
            await _file.DisposeAsync();
            File.Delete(path);
        }
    }
}
