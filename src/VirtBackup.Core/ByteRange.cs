namespace VirtBackup.Core;

/// <summary>A run of bytes of a disk: <paramref name="Offset"/> and <paramref name="Length"/> in bytes.</summary>
public readonly record struct ByteRange(long Offset, long Length)
{
    /// <summary>The first byte behind the run.</summary>
    public long End => Offset + Length;
}
