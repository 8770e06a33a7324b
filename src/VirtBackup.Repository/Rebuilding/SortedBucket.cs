using System.Numerics;
using VirtBackup.Core;
using VirtBackup.Format.Records;

namespace VirtBackup.Repository.Rebuilding;

/// <summary>
/// The records of one bucket in the order of the index, found by id, and how many leaves hold each. About 80 bytes for each
/// record of the largest bucket. Used again for the next bucket; not safe for concurrent use.
/// </summary>
internal sealed class SortedBucket(BucketSpool<StoredRecord> records)
{
    private const int CellBitsMax = 20;
    private const int RecordsPerCellLog2 = 2;

    private StoredRecord[] _records = [];

    // In sorted order: the first eight bytes of the id, which record, and for an object's first record what holds it.
    private ulong[] _keys = [];
    private int[] _order = [];
    private int[] _holders = [];
    private int[] _lastHolders = [];

    // Where keys with the same bits behind the first byte begin.
    private int[] _cells = [];
    private int _cellBits;

    public int Count { get; private set; }

    public ref readonly StoredRecord this[int at] => ref _records[_order[at]];

    /// <summary>How many leaves hold the object whose first record this is.</summary>
    public int HoldersOf(int at) => _holders[at];

    public void Load(int bucket)
    {
        Count = checked((int)records.CountOf(bucket));
        MakeRoom();
        var at = 0;
        for (var block = 0; block < records.BlocksOf(bucket); block++)
        {
            foreach (ref readonly var record in records.ReadBlock(bucket, block))
            {
                _records[at] = record;
                _keys[at] = KeyOf(record.Id);
                _order[at] = at++;
            }
        }
        _keys.AsSpan(0, Count).Sort(_order.AsSpan(0, Count));
        SortEqualKeys();
        FindCells();
        _holders.AsSpan(0, Count).Clear();
        _lastHolders.AsSpan(0, Count).Fill(-1);
    }

    /// <summary>The first record of the chunk; -1: it is not stored with that length for the scope.</summary>
    public int FindChunk(in ChunkReference reference, int scope)
    {
        var key = KeyOf(reference.Id);
        var cell = CellOf(key);
        var at = _cells[cell] + LowerBound(_keys.AsSpan(_cells[cell], _cells[cell + 1] - _cells[cell]), key);
        while (at < Count && _keys[at] == key && this[at].Id < reference.Id)
        {
            at++;
        }
        for (var first = at; at < Count && this[at].Id == reference.Id && this[at].Kind == RecordKind.Data; at++)
        {
            if (this[at].Scope == scope && this[at].RawLength == reference.Length)
            {
                return first;
            }
        }
        return -1;
    }

    /// <summary>The leaf holds the object; once, however often it names it. Calls for one leaf must follow each other.</summary>
    public void Hold(int at, int leaf)
    {
        if (_lastHolders[at] != leaf)
        {
            _lastHolders[at] = leaf;
            _holders[at]++;
        }
    }

    private static ulong KeyOf(Id32 id) => id.Leading;

    private static int LowerBound(ReadOnlySpan<ulong> keys, ulong key)
    {
        var (from, to) = (0, keys.Length);
        while (from < to)
        {
            var middle = (from + to) / 2;
            if (keys[middle] < key)
            {
                from = middle + 1;
            }
            else
            {
                to = middle;
            }
        }
        return from;
    }

    private int CellOf(ulong key) => _cellBits == 0 ? 0 : (int)((key << 8) >> (64 - _cellBits));

    private void MakeRoom()
    {
        if (_records.Length >= Count)
        {
            return;
        }
        var room = Count + (Count / 8);
        (_records, _keys, _order) = (new StoredRecord[room], new ulong[room], new int[room]);
        (_holders, _lastHolders) = (new int[room], new int[room]);
    }

    private void SortEqualKeys()
    {
        for (var from = 0; from < Count;)
        {
            var to = from + 1;
            while (to < Count && _keys[to] == _keys[from])
            {
                to++;
            }
            if (to > from + 1)
            {
                _order.AsSpan(from, to - from).Sort((left, right) => _records[left].CompareTo(_records[right]));
            }
            from = to;
        }
    }

    private void FindCells()
    {
        _cellBits = Math.Clamp(BitOperations.Log2((uint)Count + 1) - RecordsPerCellLog2, 0, CellBitsMax);
        var cells = 1 << _cellBits;
        if (_cells.Length <= cells)
        {
            _cells = new int[cells + 1];
        }
        var cell = 0;
        for (var at = 0; at < Count; at++)
        {
            for (var own = CellOf(_keys[at]); cell <= own; cell++)
            {
                _cells[cell] = at;
            }
        }
        for (; cell <= cells; cell++)
        {
            _cells[cell] = Count;
        }
    }
}
