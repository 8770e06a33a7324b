using System.Buffers;
using System.Security.Cryptography;
using VirtBackup.Core;
using VirtBackup.Database;
using VirtBackup.Format;
using VirtBackup.Format.Maps;
using VirtBackup.Format.Packs;
using VirtBackup.Format.Records;
using VirtBackup.Repository.Index;

namespace VirtBackup.Repository.Verification;

/// <summary>Damage of packs, by place.</summary>
internal sealed class PackDamage
{
    /// <summary>Packs of which nothing can be trusted without opening it, by number.</summary>
    public Dictionary<long, DamageLog.Entry> Packs { get; } = [];

    /// <summary>Records that are damaged, by pack number and offset.</summary>
    public Dictionary<(long Pack, long Position), DamageLog.Entry> Records { get; } = [];

    public DamageLog.Entry? Find(ObjectLocation location) =>
        Records.GetValueOrDefault((location.Pack, location.Position)) ?? Packs.GetValueOrDefault(location.Pack);
}

/// <summary>
/// Reads packs from the first to the last byte: hash against name, trailer and footer, every record header against the
/// footer, every map node against its id, and the index against the footer. Needs no key.
/// </summary>
internal sealed class PackVerifier(IObjectStore store, IDatabase index, DamageLog log, PackDamage damage)
{
    private readonly byte[] _scratch = new byte[RecordHeader.Size + Limits.NodeBytesMax];
    private readonly byte[] _expected = new byte[RecordHeader.Size];

    public long Packs { get; private set; }

    public long Bytes { get; private set; }

    /// <param name="number">The pack's number in the index; null when the index does not know it.</param>
    /// <param name="hash">The pack's name.</param>
    /// <param name="bytes">The length that the index knows.</param>
    /// <param name="cancellationToken">Stops between reads.</param>
    public async ValueTask VerifyAsync(long? number, Id32 hash, long bytes, CancellationToken cancellationToken)
    {
        var key = ObjectKeys.Pack(hash);
        if (await store.FindAsync(key, cancellationToken) is not { } info)
        {
            if (!await IsCollectedAsync(number, cancellationToken))
            {
                Condemn(number, key, "The pack is missing.");
            }
            return;
        }
        if (info.Length != bytes)
        {
            Condemn(number, key, $"The pack has {info.Length} bytes; it was written with {bytes}.");
            return;
        }
        try
        {
            var footer = await PackReader.ReadFooterAsync(store, info, cancellationToken);
            if (number is { } known)
            {
                await CompareIndexAsync(known, key, footer, cancellationToken);
            }
            if (await ReadAsync(number, info, footer, cancellationToken) != hash)
            {
                var problem = "The pack's bytes do not match its name: some of them have changed.";
                if (footer.Kind == RecordKind.Data)
                {
                    // Without keys nobody can tell which chunk it is.
                    Condemn(number, key, problem);
                }
                else
                {
                    // Every node was checked by itself.
                    log.Add(key, problem);
                }
            }
        }
        catch (FaultException fault) when (fault.Reason is FaultReason.Malformed or FaultReason.Corrupt or FaultReason.NotFound or FaultReason.Unsupported)
        {
            if (fault.Reason == FaultReason.NotFound && await IsCollectedAsync(number, cancellationToken))
            {
                return;
            }
            Condemn(number, key, fault.Message);
        }
        Packs++;
        Bytes += info.Length;
    }

    /// <summary>Whether the collector took the pack out of the index meanwhile.</summary>
    private async ValueTask<bool> IsCollectedAsync(long? number, CancellationToken cancellationToken) =>
        number is { } known
        && await index.ReadAsync(connection => PackTable.Find(connection, known) is not { State: PackState.Live }, cancellationToken);

    private async ValueTask<Id32> ReadAsync(long? number, ObjectInfo info, PackFooter footer, CancellationToken cancellationToken)
    {
        var entries = footer.Entries.ToArray();
        Array.Sort(entries, static (left, right) => left.Offset.CompareTo(right.Offset));
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        var buffer = ArrayPool<byte>.Shared.Rent(PackReader.ReadBytes);
        try
        {
            var next = 0;
            for (long start = 0; start < info.Length;)
            {
                var read = buffer.AsMemory(0, (int)Math.Min(PackReader.ReadBytes, info.Length - start));
                await store.ReadExactlyAsync(info.Key, start, read, cancellationToken);
                hash.AppendData(read.Span);
                while (next < entries.Length && Gather(entries[next], start, read.Span) is { } isWhole)
                {
                    if (!isWhole)
                    {
                        break;
                    }
                    Check(number, info.Key, entries[next++]);
                }
                start += read.Length;
            }
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(buffer);
        }
        return Id32.Read(hash.GetHashAndReset());
    }

    private static int CheckedBytesOf(in PackEntry entry) => entry.Header.Kind == RecordKind.Map ? entry.Header.RecordLength : RecordHeader.Size;

    /// <summary>Copies what this read has of the entry's checked bytes: true when they are whole, null when none of them came.</summary>
    private bool? Gather(in PackEntry entry, long start, ReadOnlySpan<byte> read)
    {
        var end = entry.Offset + CheckedBytesOf(entry);
        var from = Math.Max(entry.Offset, start);
        var to = Math.Min(end, start + read.Length);
        if (from >= to)
        {
            return null;
        }
        read[(int)(from - start)..(int)(to - start)].CopyTo(_scratch.AsSpan((int)(from - entry.Offset)));
        return to == end;
    }

    private void Check(long? number, string key, in PackEntry entry)
    {
        entry.Header.Write(_expected);
        string? problem = null;
        if (!_expected.AsSpan().SequenceEqual(_scratch.AsSpan(0, RecordHeader.Size)))
        {
            problem = $"The header of the record at byte {entry.Offset} is not what the footer says.";
        }
        else if (entry.Header.Kind == RecordKind.Map && NodeId.Compute(_scratch.AsSpan(RecordHeader.Size, entry.Header.SealedLength)) != entry.Header.Id)
        {
            problem = $"The map node at byte {entry.Offset} does not match its id {entry.Header.Id}.";
        }
        if (problem is not null)
        {
            var found = log.Add(key, problem);
            if (number is { } known)
            {
                damage.Records[(known, entry.Offset)] = found;
            }
        }
    }

    private async ValueTask CompareIndexAsync(long number, string key, PackFooter footer, CancellationToken cancellationToken)
    {
        var differing = await index.ReadAsync(
            connection =>
            {
                using var find = connection.Prepare(
                    """
                    SELECT o.position, o.sealed_length, o.raw_length FROM object o JOIN scope s ON s.number = o.scope
                    WHERE o.id = ?1 AND o.kind = ?2 AND o.pack IN (?3, -?3) AND s.id = ?4
                    """);
                find.Bind(2, (long)footer.Kind).Bind(3, number);
                var (count, without) = (0L, 0L);
                foreach (ref readonly var entry in footer.Entries)
                {
                    if (!find.Bind(1, entry.Header.Id).Bind(4, entry.Header.Scope).Step())
                    {
                        without++;
                        continue;
                    }
                    var isSame = find.GetInt64(0) == entry.Offset && find.GetInt64(1) == entry.Header.SealedLength && find.GetInt64(2) == entry.Header.RawLength;
                    count += isSame ? 0 : 1;
                    find.Reset();
                }
                // The collector takes records out of the index before their pack goes, and counts them.
                return PackTable.Find(connection, number) is { State: PackState.Live } pack ? count + Math.Abs(without - pack.DeadRecords) : 0;
            },
            cancellationToken);
        if (differing > 0)
        {
            log.Add(key, $"The index differs from the pack in {differing} records: rebuild the index.");
        }
    }

    private void Condemn(long? number, string key, string problem)
    {
        var found = log.Add(key, problem);
        if (number is { } known)
        {
            damage.Packs[known] = found;
        }
    }
}
