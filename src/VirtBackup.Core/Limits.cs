namespace VirtBackup.Core;

/// <summary>Bounds that every parser and every buffer respects. Bytes unless the name says otherwise.</summary>
public static class Limits
{
    /// <summary>Largest plaintext chunk.</summary>
    public const int ChunkBytesMax = 4 << 20;

    /// <summary>Largest payload of a record: the largest chunk, its nonce and tag; an incompressible chunk is stored as it is.</summary>
    public const int SealedBytesMax = ChunkBytesMax + 28;

    /// <summary>What disks written past the page cache want addresses, offsets and lengths to be multiples of.</summary>
    public const int PageBytes = 4096;

    /// <summary>A pack is closed when it reaches this.</summary>
    public const int PackBytesTarget = 32 << 20;

    /// <summary>No pack is longer: the target, one record, and the footer.</summary>
    public const int PackBytesMax = 128 << 20;

    /// <summary>What a provider takes in one request. A pack with more than one record is not longer.</summary>
    public const int OnePutBytesMax = 64 << 20;

    /// <summary>Packs leave so many bytes of a store free: to forget, lock and collect takes little space, but some.</summary>
    public const int StoreReserveBytes = 16 << 20;

    /// <summary>Records in one pack.</summary>
    public const int PackRecordsMax = 1 << 18;

    /// <summary>Largest map node.</summary>
    public const int NodeBytesMax = 1 << 20;

    /// <summary>Largest manifest.</summary>
    public const int ManifestBytesMax = 16 << 20;

    /// <summary>Largest disk: 2^56.</summary>
    public const long DiskBytesMax = 1L << 56;

    /// <summary>Disks and streams in one recovery point.</summary>
    public const int StreamsPerPointMax = 1024;

    /// <summary>Key epochs that one leaf may list (entries name theirs by one byte).</summary>
    public const int EpochsPerLeafMax = 256;

    /// <summary>Key epochs that one recovery point may list.</summary>
    public const int EpochsPerPointMax = 1 << 16;

    /// <summary>Payload of one wire message of a data stream: below the large object heap's threshold.</summary>
    public const int SliceBytesMax = 64 << 10;

    /// <summary>One message of the control plane: intent and progress, never data.</summary>
    public const int ControlMessageBytesMax = 64 << 10;

    /// <summary>Ids in one probe.</summary>
    public const int ProbeIdsMax = 4096;
}
