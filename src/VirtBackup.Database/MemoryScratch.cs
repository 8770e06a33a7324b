using VirtBackup.Core;

namespace VirtBackup.Database;

/// <summary>Scratch of a database in memory.</summary>
internal sealed class MemoryScratch : IScratch
{
    private const int BlockBytes = 1 << 16;

    private readonly List<byte[]> _blocks = [];

    public long Length { get; private set; }

    public void Append(ReadOnlySpan<byte> bytes)
    {
        while (!bytes.IsEmpty)
        {
            var at = (int)(Length % BlockBytes);
            if (at == 0)
            {
                _blocks.Add(new byte[BlockBytes]);
            }
            var count = Math.Min(bytes.Length, BlockBytes - at);
            bytes[..count].CopyTo(_blocks[^1].AsSpan(at));
            Length += count;
            bytes = bytes[count..];
        }
    }

    public void Read(long offset, Span<byte> destination)
    {
        Check.That(offset >= 0 && offset <= Length - destination.Length);
        while (!destination.IsEmpty)
        {
            var source = _blocks[(int)(offset / BlockBytes)].AsSpan((int)(offset % BlockBytes));
            var count = Math.Min(source.Length, destination.Length);
            source[..count].CopyTo(destination);
            offset += count;
            destination = destination[count..];
        }
    }

    public void Dispose() => _blocks.Clear();
}
