namespace VirtBackup.Repository.Auditing;

/// <summary>A count and a mark for each object number, 4 bytes together, in blocks that exist where numbers are. Not safe for concurrent use.</summary>
internal sealed class NumberedCounts
{
    private const int BlockBits = 16;
    private const uint Mark = 1u << 31;

    private readonly Dictionary<long, uint[]> _blocks = [];
    private uint[]? _last;
    private long _lastBlock = -1;

    public long this[long number] => Find(number) is { } block ? block[number & ((1 << BlockBits) - 1)] & ~Mark : 0;

    public bool IsMarked(long number) => Find(number) is { } block && (block[number & ((1 << BlockBits) - 1)] & Mark) != 0;

    public void Add(long number) => Slot(number)++;

    /// <summary>False when it was marked before.</summary>
    public bool TryMark(long number)
    {
        ref var slot = ref Slot(number);
        var isNew = (slot & Mark) == 0;
        slot |= Mark;
        return isNew;
    }

    private ref uint Slot(long number)
    {
        if (Find(number) is not { } block)
        {
            _blocks.Add(number >> BlockBits, block = new uint[1 << BlockBits]);
            (_last, _lastBlock) = (block, number >> BlockBits);
        }
        return ref block[number & ((1 << BlockBits) - 1)];
    }

    private uint[]? Find(long number)
    {
        if (number >> BlockBits != _lastBlock)
        {
            if (!_blocks.TryGetValue(number >> BlockBits, out var block))
            {
                return null;
            }
            (_last, _lastBlock) = (block, number >> BlockBits);
        }
        return _last;
    }
}
