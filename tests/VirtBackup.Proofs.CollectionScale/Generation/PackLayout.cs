using System.Buffers.Binary;
using VirtBackup.Core;
using VirtBackup.Format;
using VirtBackup.Format.Packs;
using VirtBackup.Format.Records;

namespace VirtBackup.Proofs.CollectionScale.Generation;

/// <summary>A data pack: chunks <paramref name="First"/> to <paramref name="First"/> + <paramref name="Count"/>, and dead records behind them.</summary>
/// <param name="Number">In the index.</param>
/// <param name="First">Its first chunk.</param>
/// <param name="Count">Chunks that points need.</param>
/// <param name="Dead">Records that left the index with earlier points: too few to write the pack anew.</param>
/// <param name="Point">The point that brought it.</param>
/// <param name="IsReal">Its bytes exist; of the others only the table of contents can be made.</param>
internal readonly record struct DataPack(long Number, long First, int Count, int Dead, int Point, bool IsReal);

/// <summary>
/// Which pack holds which chunk, and where. Packs hold the chunks of one point, in the order in which they were read, and
/// are a sixteenth of the usual size with records to match, so that there are as many as in a real repository.
/// </summary>
internal sealed class PackLayout
{
    public const int RecordsPerPack = 256;
    public const int RawLength = 256 << 10;
    public const int PackBytesTarget = 2 << 20;
    public const ushort IdGeneration = 1;

    // Every third old pack has lost a tenth of its records to points that were deleted before.
    private const int DeadRecords = 26;
    private const int WithDeadEvery = 3;

    private readonly HistoryShape _shape;
    private readonly IReadOnlyList<Victim> _victims;
    private readonly long[] _starts;
    private readonly long[] _firstPacks;
    private readonly int[] _sealedLengths = new int[RecordsPerPack + DeadRecords];
    private readonly long[] _positions = new long[RecordsPerPack + DeadRecords + 1];

    public PackLayout(ulong seed, HistoryShape shape)
    {
        _shape = shape;
        Names = new ChunkNames(seed, shape.Chunks);
        _victims = Victim.Choose(shape);
        _starts = new long[1 + shape.Machines + (shape.Machines * (shape.PointsPerMachine - 1)) + 1];
        _firstPacks = new long[_starts.Length];
        for (var i = 0; i < _sealedLengths.Length; i++)
        {
            // 4 to 12 KiB, on average 8.
            _sealedLengths[i] = 4096 + (int)(Names.Chance(i, 9) % 8192);
            _positions[i + 1] = _positions[i] + RecordHeader.Size + _sealedLengths[i];
        }
        for (var segment = 0; segment < _starts.Length; segment++)
        {
            _starts[segment] = StartOf(segment);
            _firstPacks[segment] = segment == 0 ? 1 : _firstPacks[segment - 1] + DivideUp(_starts[segment] - _starts[segment - 1], RecordsPerPack);
        }
    }

    public ChunkNames Names { get; }

    /// <summary>Data packs; their numbers begin at 1.</summary>
    public long Packs => _firstPacks[^1] - 1;

    public DataPack this[long number]
    {
        get
        {
            var segment = SegmentOf(_firstPacks, number);
            var first = _starts[segment] + ((number - _firstPacks[segment]) * RecordsPerPack);
            var count = (int)Math.Min(RecordsPerPack, _starts[segment + 1] - first);
            var (machine, point) = segment <= _shape.Machines
                ? (segment - 1, 0)
                : ((segment - _shape.Machines - 1) % _shape.Machines, ((segment - _shape.Machines - 1) / _shape.Machines) + 1);
            var isReal = point > 0 && _victims.Any(victim => victim.Machine == machine && victim.Point == point);
            return new DataPack(number, first, count, _shape.HasDead && !isReal && number % WithDeadEvery == 0 ? DeadRecords : 0, point, isReal);
        }
    }

    /// <summary>The pack of a chunk and where its record lies there.</summary>
    public (long Pack, long Position, int SealedLength) PlaceOf(long chunk)
    {
        var segment = SegmentOf(_starts, chunk);
        var within = chunk - _starts[segment];
        var slot = (int)(within % RecordsPerPack);
        return (_firstPacks[segment] + (within / RecordsPerPack), _positions[slot], _sealedLengths[slot]);
    }

    public long BytesOf(in DataPack pack) => _positions[pack.Count + pack.Dead] + PackFooter.SuffixLengthOf(pack.Count + pack.Dead);

    public long DeadBytesOf(in DataPack pack) => _positions[pack.Count + pack.Dead] - _positions[pack.Count];

    /// <summary>The table of contents: the same whether the pack's bytes exist or not.</summary>
    public PackEntry[] EntriesOf(in DataPack pack)
    {
        var entries = new PackEntry[pack.Count + pack.Dead];
        for (var i = 0; i < entries.Length; i++)
        {
            var id = i < pack.Count ? Names.IdOf(pack.First + i) : DeadId(pack.Number, i);
            entries[i] = new PackEntry(
                new RecordHeader(RecordKind.Data, RecordCodec.Zstd, RawLength, _sealedLengths[i], id, Fleet.Scope, IdGeneration), checked((uint)_positions[i]));
        }
        return entries;
    }

    /// <summary>The name of a pack without bytes, which tells its number.</summary>
    public Id32 HashOf(long number) =>
        new(new UInt128(Names.Chance(number, 10), (ulong)number), new UInt128(Names.Chance(number, 11), Names.Chance(number, 12)));

    /// <summary>The pack without bytes of that key, or null.</summary>
    public DataPack? Find(string key)
    {
        if (!ObjectKeys.TryParsePack(key, out var hash))
        {
            return null;
        }
        var number = (long)BinaryPrimitives.ReadUInt64BigEndian(hash.ToArray().AsSpan(8));
        return number >= 1 && number <= Packs && HashOf(number) == hash && this[number] is { IsReal: false } pack ? pack : null;
    }

    public static long DivideUp(long value, long divisor) => (value + divisor - 1) / divisor;

    private static int SegmentOf(long[] starts, long value)
    {
        var found = Array.BinarySearch(starts, value);
        return found >= 0 ? found : ~found - 1;
    }

    private Id32 DeadId(long pack, int slot) => new(new UInt128(Names.Chance(pack, 13), Names.Chance(pack, 14)), new UInt128((ulong)pack, (ulong)slot));

    private long StartOf(int segment)
    {
        if (segment == 0)
        {
            return 0;
        }
        if (segment <= _shape.Machines)
        {
            return _shape.BaseStart(segment - 1);
        }
        var (machine, point) = ((segment - _shape.Machines - 1) % _shape.Machines, ((segment - _shape.Machines - 1) / _shape.Machines) + 1);
        // The first machine's point brings what all machines share.
        return point == _shape.PointsPerMachine ? _shape.Chunks : machine == 0 ? _shape.SharedStart(point) : _shape.OwnStart(machine, point);
    }
}
