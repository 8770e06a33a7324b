using VirtBackup.Core;

namespace VirtBackup.Hypervisors.State;

/// <summary>A block of the machine's memory, as its hypervisor names it, and where it lies in the memory stream.</summary>
internal sealed record MemoryBlock(string Name, long LengthBytes, long Offset);

/// <summary>
/// How memory blocks lie in the memory stream: in the hypervisor's order, each at a multiple of <see cref="Alignment"/>, so that a block
/// that grows does not move the pages of others by parts of a chunk.
/// </summary>
internal sealed class MemoryLayout
{
    public const int PageBytes = 4096;
    public const int Alignment = 1 << 20;
    public const int BlocksMax = 4096;
    /// <summary>Above what any machine has today.</summary>
    public const long BytesMax = 1L << 46;

    private readonly Dictionary<string, MemoryBlock> byName = new(StringComparer.Ordinal);
    private readonly List<MemoryBlock> blocks = [];

    public IReadOnlyList<MemoryBlock> Blocks => blocks;

    /// <summary>Length of the memory stream.</summary>
    public long LengthBytes { get; private set; }

    /// <summary>Whether a name is plain text.</summary>
    public static bool IsName(ReadOnlySpan<byte> bytes) => !bytes.ContainsAnyExceptInRange((byte)0x20, (byte)0x7e);

    /// <exception cref="FaultException"><see cref="FaultReason.Malformed"/>: its length or number is out of bounds, or its name taken.</exception>
    public void Add(string name, ulong length)
    {
        var start = (LengthBytes + Alignment - 1) / Alignment * Alignment;
        if (length == 0 || length % PageBytes != 0 || length > (ulong)(BytesMax - start) || blocks.Count >= BlocksMax || name.Length == 0)
        {
            throw FaultException.Malformed($"The saved state has a memory block '{name}' of {length} bytes, which is out of bounds.");
        }
        var block = new MemoryBlock(name, (long)length, start);
        if (!byName.TryAdd(name, block))
        {
            throw FaultException.Malformed($"The saved state has the memory block '{name}' twice.");
        }
        blocks.Add(block);
        LengthBytes = start + (long)length;
    }

    public MemoryBlock Find(string name) => byName.GetValueOrDefault(name)
        ?? throw FaultException.Malformed($"The saved state has pages of the memory block '{name}', which it does not list.");
}
