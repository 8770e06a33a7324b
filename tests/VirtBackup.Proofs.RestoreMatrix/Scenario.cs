namespace VirtBackup.Proofs.RestoreMatrix;

/// <summary>What happens to a machine between its first recovery point and the one that is restored.</summary>
internal enum Scenario
{
    /// <summary>Nothing: the first point is restored.</summary>
    Full,
    Incremental,
    /// <summary>Somebody removes the bitmaps of the data disks.</summary>
    BitmapLost,
    /// <summary>Further disks are plugged in while the machine runs.</summary>
    DiskAdded,
    DiskGrown,
    /// <summary>A snapshot overlay is put on every data disk.</summary>
    OverlayAdded,
    /// <summary>The same, and it is committed into its base again.</summary>
    OverlayCommitted,
    /// <summary>The guest resets.</summary>
    Rebooted,
    /// <summary>The hypervisor's process is killed and started again.</summary>
    Killed,
    /// <summary>The machine is off, and its disks are read as image files.</summary>
    Off,
}

/// <summary>Who runs the machine.</summary>
internal enum Platform
{
    Qmp,
    Libvirt,
}

/// <summary>A row of the matrix; it is shown for all kinds of disks at once.</summary>
internal readonly record struct Cell(Platform Platform, Scenario Scenario)
{
    public override string ToString() => $"{Platform}-{Scenario}".ToLowerInvariant();
}

/// <summary>Where a disk's content lies.</summary>
internal enum DiskKind
{
    Qcow2,
    Raw,
    /// <summary>A block device (loop).</summary>
    Block,
}

/// <summary>One disk of a matrix machine.</summary>
/// <param name="Name">As the product names it: the device's id.</param>
/// <param name="Node">Its block node.</param>
/// <param name="Path">The topmost image or device.</param>
/// <param name="IsRoot">The guest's own disk, to which scenarios do nothing.</param>
/// <param name="Added">It was not there at the first point.</param>
internal sealed record MatrixDisk(string Name, string Node, string Path, string Format, DiskKind Kind, bool IsRoot = false, bool Added = false);

/// <summary>How a disk must be read: changed blocks, or in full for a reason.</summary>
/// <param name="FullReason">A part of the reason; null: changed blocks only.</param>
internal sealed record Mode(string? FullReason)
{
    private const string ChangedOnly = "changed blocks only";
    private const string NotThere = "it was not part of the last recovery point";

    public static readonly Mode Changed = new((string?)null);

    /// <summary>What the matrix says of a cell of a plain QEMU.</summary>
    public static Mode Of(Scenario scenario, MatrixDisk disk) => scenario switch
    {
        Scenario.Full => new("no change tracking since an earlier recovery point"),
        Scenario.Off => new("image files have no change tracking"),
        // QEMU writes a bitmap into the image when it ends: of one that it was killed with nothing is left.
        Scenario.Killed => new("no change tracking since an earlier recovery point"),
        _ when disk.IsRoot => Changed,
        Scenario.BitmapLost when disk.Kind == DiskKind.Qcow2 => new("its change tracking was removed"),
        Scenario.BitmapLost => new(NotThere),
        Scenario.DiskAdded => disk.Added ? new(NotThere) : Changed,
        Scenario.DiskGrown => new("it was resized from"),
        Scenario.OverlayAdded => new("its change tracking was removed"),
        _ => Changed,
    };

    public bool Allows(string reason) => FullReason is null ? reason == ChangedOnly : reason.Contains(FullReason, StringComparison.Ordinal) && reason.Contains("full", StringComparison.Ordinal);

    public override string ToString() => FullReason is null ? ChangedOnly : $"in full: {FullReason}";
}
