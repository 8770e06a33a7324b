using System.Buffers;
using System.Runtime.CompilerServices;
using System.Security.Cryptography;
using VirtBackup.Core;
using VirtBackup.Format;
using VirtBackup.Format.Packs;
using VirtBackup.Format.Records;
using VirtBackup.Repository.Index;

namespace VirtBackup.Repository.Ingest;

/// <summary>
/// A pack that is being written and has no name yet. Headers and pieces of records are gathered into larger writes, which
/// leave a reserve of the store's space free. Not safe for concurrent use.
/// </summary>
internal sealed class StagedPack : IAsyncDisposable
{
    private const int WriteBytes = 256 << 10;

    private readonly IObjectStore _store;
    private readonly IObjectWriter _writer;
    private readonly IncrementalHash _hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
    private readonly List<PackEntry> _entries = [];
    private readonly HashSet<(Id32, Id16)> _names = [];
    private byte[]? _gathered = ArrayPool<byte>.Shared.Rent(WriteBytes);
    private int _fill;
    private StoredPack? _finished;

    private StagedPack(IObjectStore store, IObjectWriter writer, RecordKind kind)
    {
        _store = store;
        _writer = writer;
        Kind = kind;
    }

    public RecordKind Kind { get; }

    /// <summary>Bytes of records so far, a record under way included.</summary>
    public long RecordBytes { get; private set; }

    /// <summary>After publishing: the store held the very same pack already.</summary>
    public bool WasThere { get; private set; }

    /// <summary>After publishing failed: the pack whose damaged object has this one's name.</summary>
    public StoredPack? Blocker { get; private set; }

    /// <summary>Whole records so far.</summary>
    public int Count => _entries.Count;

    public static async ValueTask<StagedPack> CreateAsync(IObjectStore store, RecordKind kind, CancellationToken cancellationToken) =>
        // Maps are read again soon: by the commit, by restores and by collections.
        new(store, await (kind == RecordKind.Map ? store.Near : store).CreateAsync(cancellationToken), kind);

    /// <summary>Whether the record would make the pack longer than one request can store.</summary>
    public bool IsFullFor(in RecordHeader header) =>
        Count > 0 && RecordBytes + header.RecordLength + PackFooter.SuffixLengthOf(Count + 1) > Limits.OnePutBytesMax;

    public bool Contains(in RecordHeader header) => _names.Contains((header.Id, header.Scope));

    /// <summary>Takes the next bytes; they may be reused when the call returns.</summary>
    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder))]
    public async ValueTask AppendAsync(ReadOnlyMemory<byte> bytes, CancellationToken cancellationToken)
    {
        RecordBytes += bytes.Length;
        while (bytes.Length > 0)
        {
            var count = Math.Min(WriteBytes - _fill, bytes.Length);
            bytes[..count].CopyTo(_gathered.AsMemory(_fill));
            bytes = bytes[count..];
            _fill += count;
            if (_fill == WriteBytes)
            {
                await WriteGatheredAsync(cancellationToken);
            }
        }
    }

    /// <summary>Notes that the last bytes appended are a whole record.</summary>
    public void Complete(in RecordHeader header)
    {
        _entries.Add(new PackEntry(header, checked((uint)(RecordBytes - header.RecordLength))));
        Check.That(_names.Add((header.Id, header.Scope)));
    }

    /// <summary>Adds the footer: all bytes are written, and only the name is missing. Nothing may be appended any more.</summary>
    public async ValueTask FinishAsync(CancellationToken cancellationToken)
    {
        if (_finished is not null)
        {
            return;
        }
        var entries = _entries.ToArray();
        await WriteGatheredAsync(cancellationToken);
        var suffix = PackFooter.Build(Kind, entries, RecordBytes);
        _hash.AppendData(suffix);
        await _writer.WriteAsync(suffix, cancellationToken);
        _finished = new StoredPack(ReadHash(_hash), Kind, RecordBytes + suffix.Length, entries);
        Check.That(_finished.Bytes == _writer.Length && _finished.Bytes <= Limits.PackBytesMax);
    }

    /// <summary>Finishes the pack and gives it its name; durable when it returns.</summary>
    public async ValueTask<StoredPack> PublishAsync(CancellationToken cancellationToken)
    {
        await FinishAsync(cancellationToken);
        var pack = _finished!;
        if (!await _writer.PublishAsync(ObjectKeys.Pack(pack.Hash), cancellationToken))
        {
            await RequireSameAsync(pack, cancellationToken);
            WasThere = true;
        }
        return pack;
    }

    public async ValueTask DisposeAsync()
    {
        _hash.Dispose();
        await _writer.DisposeAsync();
        if (_gathered is { } buffer)
        {
            _gathered = null;
            ArrayPool<byte>.Shared.Return(buffer);
        }
    }

    private async ValueTask WriteGatheredAsync(CancellationToken cancellationToken)
    {
        if (_fill == 0)
        {
            return;
        }
        var gathered = _gathered.AsMemory(0, _fill);
        _fill = 0;
        if (await _store.GetFreeBytesAsync(cancellationToken) is { } free && free - gathered.Length < Limits.StoreReserveBytes)
        {
            throw new FaultException(
                FaultReason.DeviceFull,
                $"The device of {_store.Location} has {free} bytes of free space, and the last {Limits.StoreReserveBytes >> 20} MiB are kept for forgetting and collecting. "
                + "Forget recovery points (virtbackup recovery-point forget), free other space there, or enlarge it.");
        }
        _hash.AppendData(gathered.Span);
        await _writer.WriteAsync(gathered, cancellationToken);
    }

    /// <summary>
    /// A pack of that name exists: the same bytes were sent before, and only their acknowledgement was lost. It counts
    /// as durable only if it is still whole.
    /// </summary>
    private async ValueTask RequireSameAsync(StoredPack pack, CancellationToken cancellationToken)
    {
        Id32 hash;
        try
        {
            hash = await PackReader.HashAsync(_store, ObjectKeys.Pack(pack.Hash), pack.Bytes, cancellationToken);
        }
        catch (FaultException gone) when (gone.Reason == FaultReason.NotFound)
        {
            throw new FaultException(FaultReason.Unavailable, "The pack was just deleted from the repository: send its records again.", gone);
        }
        if (hash != pack.Hash)
        {
            Blocker = pack;
            throw FaultException.Corrupt(
                $"The object {ObjectKeys.Pack(pack.Hash)} is damaged and stands in the way of its own repair: run 'virtbackup repository scrub', then the backup again.");
        }
    }

    private static Id32 ReadHash(IncrementalHash hash)
    {
        Span<byte> digest = stackalloc byte[Id32.Size];
        hash.GetHashAndReset(digest);
        return Id32.Read(digest);
    }
}
