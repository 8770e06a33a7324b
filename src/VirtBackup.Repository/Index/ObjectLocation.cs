using VirtBackup.Format.Packs;
using VirtBackup.Format.Records;

namespace VirtBackup.Repository.Index;

/// <summary>Where a record lies.</summary>
/// <param name="Pack">Number of the pack in the index.</param>
/// <param name="Position">Offset of the record's header in the pack, bytes.</param>
/// <param name="SealedLength">Payload bytes behind the header.</param>
/// <param name="RawLength">Plaintext bytes.</param>
internal readonly record struct ObjectLocation(long Pack, long Position, int SealedLength, int RawLength)
{
    /// <summary>The pack is damaged somewhere: another location is to be preferred.</summary>
    public bool IsDoubtful { get; init; }

    /// <summary>Header and payload bytes.</summary>
    public int RecordLength => RecordHeader.Size + SealedLength;

    /// <summary>The first byte behind the record.</summary>
    public long End => Position + RecordLength;
}

/// <summary>A pack that is durable in the store, with its table of contents.</summary>
/// <param name="Hash">Its name.</param>
/// <param name="Kind">The kind of all its records.</param>
/// <param name="Bytes">Length of the object.</param>
/// <param name="Entries">All records.</param>
internal sealed record StoredPack(Core.Id32 Hash, RecordKind Kind, long Bytes, PackEntry[] Entries);

/// <summary>A record on its way from one pack to another.</summary>
/// <param name="Entry">The record; where it lies in the new pack.</param>
/// <param name="Source">Number of the pack that it leaves.</param>
/// <param name="IsCopied">False: the new pack holds the same object from another source.</param>
internal readonly record struct RecordMove(PackEntry Entry, long Source, bool IsCopied);

/// <summary>A record as the index names it: where its row says that it lies.</summary>
/// <param name="Header">As it must stand in the pack.</param>
/// <param name="Position">Offset in the pack, bytes.</param>
/// <param name="Count">References to the object.</param>
internal readonly record struct IndexedRecord(RecordHeader Header, long Position, long Count);
