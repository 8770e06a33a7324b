namespace VirtBackup.Nbd;

/// <summary>What an export can do (NBD protocol, "Transmission flags"). Unknown bits are dropped.</summary>
[Flags]
public enum NbdExportFlags
{
    None = 0,
    ReadOnly = 1 << 1,
    Flush = 1 << 2,
    ForceUnitAccess = 1 << 3,
    Rotational = 1 << 4,
    Trim = 1 << 5,
    WriteZeroes = 1 << 6,
    DontFragment = 1 << 7,
    /// <summary>A flush on one connection covers writes made on others.</summary>
    CanMultiConnect = 1 << 8,
}

/// <summary>
/// Request sizes in bytes that the server asked for (NBD protocol, "Block size constraints"): every offset and length is a
/// multiple of <paramref name="Minimum"/>, reads and writes carry at most <paramref name="Maximum"/>.
/// </summary>
public readonly record struct NbdBlockSizes(int Minimum, int Preferred, int Maximum);

/// <summary>What the handshake found out.</summary>
internal sealed record NbdExport(
    long Size, NbdExportFlags Flags, NbdBlockSizes BlockSizes, bool StructuredReplies, IReadOnlyList<NbdContext> Contexts);

/// <summary>A negotiated metadata context and the number by which replies name it.</summary>
internal readonly record struct NbdContext(string Name, uint Id);
