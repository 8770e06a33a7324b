namespace VirtBackup.Nbd;

/// <summary>
/// A run of the export with one status: <paramref name="Offset"/> and <paramref name="Length"/> in bytes,
/// <paramref name="Flags"/> as the metadata context defines them.
/// </summary>
public readonly record struct NbdExtent(long Offset, long Length, uint Flags)
{
    /// <summary>The first byte behind the run.</summary>
    public long End => Offset + Length;

    /// <summary>For <see cref="NbdContexts.BaseAllocation"/>: not allocated (NBD_STATE_HOLE). Says nothing about content.</summary>
    public bool IsHole => (Flags & 1) != 0;

    /// <summary>For <see cref="NbdContexts.BaseAllocation"/>: reads as zeroes (NBD_STATE_ZERO).</summary>
    public bool IsZero => (Flags & 2) != 0;

    /// <summary>For <see cref="NbdContexts.QemuDirtyBitmap"/>: written since the bitmap was started or cleared.</summary>
    public bool IsDirty => (Flags & 1) != 0;
}
