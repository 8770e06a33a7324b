using VirtBackup.Format.Maps;

namespace VirtBackup.Proofs.CollectionScale.Generation;

/// <summary>
/// The form of a history: machines that share chunks, each backed up again and again. What a point changes has the same
/// size in every history; only the disks grow with the number of chunks, and with them the trees and the packs.
/// </summary>
/// <param name="Chunks">Distinct chunks that points need.</param>
/// <param name="Machines">Machines; all have disks of one size.</param>
/// <param name="PointsPerMachine">The first reads the whole disk, every other one what changed.</param>
/// <param name="HotLeaves">Leaves of each hot area: places that every point changes, such as logs and databases.</param>
/// <param name="HasDead">Packs hold records that left the index with earlier points.</param>
internal sealed record HistoryShape(
    long Chunks, int Machines, int PointsPerMachine, int HotLeaves = HistoryShape.UsualHotLeaves, bool HasDead = true)
{
    public const int UsualHotLeaves = 16;
    public const int LeafChunks = 64;
    public const int HotAreas = 4;

    /// <summary>Chunks of a hot leaf that a point changes.</summary>
    public const int HotPerLeaf = 5;

    /// <summary>One of so many changed chunks is the same on every machine at that point, such as an update.</summary>
    public const int SharedEvery = 8;

    /// <summary>Chunks that a point adds in one run behind those of the point before, such as new files.</summary>
    public const int ColdChunks = 330;

    private const long DisksMin = 8L * (UsualHotLeaves + 4) * LeafChunks;

    /// <summary>The history of the usual form with so many chunks.</summary>
    public static HistoryShape Long(long chunks) => new(chunks, 20, 50);

    /// <summary>A fifth of the points, for the short form.</summary>
    public static HistoryShape Short(long chunks) => new(chunks, 10, 20);

    public int Points => Machines * PointsPerMachine;

    public static MapShape MapShape => MapShape.Default;

    public int HotSlots => HotAreas * HotLeaves * HotPerLeaf;

    /// <summary>Chunks that all machines get at the same point.</summary>
    public int SharedChunks => HotSlots / SharedEvery;

    /// <summary>Chunks that one point alone adds.</summary>
    public int OwnChunks => HotSlots - SharedChunks + ColdChunks;

    /// <summary>Chunks of a disk's first point that no other machine has.</summary>
    public long BaseChunks => FirstChunks * 4 / ((4 * Machines) + 1);

    /// <summary>Chunks that every disk holds at its first point, such as the operating system: a fifth of a disk.</summary>
    public long PoolChunks => FirstChunks - (BaseChunks * Machines);

    public long DiskChunks => PoolChunks + BaseChunks;

    public MapGeometry Disk => new(MapShape, DiskChunks << MapShape.ChunkLog2);

    public bool IsLargeEnough => DiskChunks >= DisksMin;

    /// <summary>Chunks of all first points.</summary>
    private long FirstChunks => Chunks - ((PointsPerMachine - 1) * (SharedChunks + ((long)Machines * OwnChunks)));

    // Chunks are numbered in the order in which they were stored: the pool, the first points, then point by point.
    public long BaseStart(int machine) => PoolChunks + (machine * BaseChunks);

    /// <param name="point">1 or more.</param>
    public long SharedStart(int point) => FirstChunks + ((point - 1) * (SharedChunks + ((long)Machines * OwnChunks)));

    /// <param name="machine">Whose.</param>
    /// <param name="point">1 or more.</param>
    public long OwnStart(int machine, int point) => SharedStart(point) + SharedChunks + ((long)machine * OwnChunks);
}
