using VirtBackup.Core;

namespace VirtBackup.Testing.Platforms.VSphere;

/// <summary>A machine on the server, as the server, its guest and its operators see it.</summary>
public sealed class VSphereMachine(Id16 id, string name)
{
    private int keys = 2000;

    public Id16 Id => id;

    public string Name => name;

    public bool ChangeTracking { get; set; }

    public List<VSphereDisk> Disks { get; } = [];

    public List<VSphereSnapshot> Snapshots { get; } = [];

    public int ConsolidationLeft { get; set; }

    /// <param name="outsideSnapshots">Why snapshots leave the disk out (independent, raw device mapping), or null.</param>
    public VSphereDisk AddDisk(byte[] content, string? outsideSnapshots = null)
    {
        var disk = new VSphereDisk(keys, $"Hard disk {keys - 1999}", content, outsideSnapshots);
        keys++;
        Disks.Add(disk);
        return disk;
    }

    public VSphereDisk Disk(string label) => Disks.Single(disk => disk.Label == label);

    /// <summary>The host ended uncleanly: what had changed is not known any more.</summary>
    public void LosePower()
    {
        foreach (var disk in Disks)
        {
            disk.LoseTracking();
        }
    }

    /// <summary>Back to a snapshot, as an operator does it.</summary>
    public void Revert(VSphereSnapshot snapshot)
    {
        ArgumentNullException.ThrowIfNull(snapshot);
        foreach (var frozen in snapshot.Disks)
        {
            Disks.Single(disk => disk.Key == frozen.Key).Revert(frozen);
        }
    }
}

/// <param name="Name">Given by who made it.</param>
public sealed record VSphereSnapshot(string Id, string Name, IReadOnlyList<VSphereFrozenDisk> Disks);

/// <summary>A disk in a snapshot.</summary>
/// <param name="ChangeId">Empty when changes were not tracked.</param>
/// <param name="ChangedAt">The sequence number at which each block was last written.</param>
public sealed record VSphereFrozenDisk(int Key, string Label, byte[] Content, string ChangeId, long[] ChangedAt);

/// <summary>A disk of a running machine.</summary>
public sealed class VSphereDisk(int key, string label, byte[] content, string? outsideSnapshots)
{
    private static int trackings;
    private byte[] content = content;
    private long[] changedAt = new long[ByteBlocks.CountOf(content.Length)];
    private string tracking = NewTracking();
    private long sequence;

    public int Key => key;

    public string Label => label;

    public string? OutsideSnapshots => outsideSnapshots;

    public byte[] Content => content;

    /// <summary>The change id of a snapshot made now.</summary>
    public ChangeId Now => new(tracking, sequence);

    public void Write(long offset, ReadOnlySpan<byte> data)
    {
        data.CopyTo(content.AsSpan((int)offset));
        foreach (var block in ByteBlocks.Touched(offset, data.Length))
        {
            changedAt[block] = sequence;
        }
    }

    /// <summary>Growing a disk ends its tracking.</summary>
    public void Grow(long length)
    {
        Array.Resize(ref content, (int)length);
        LoseTracking();
    }

    public void LoseTracking()
    {
        (tracking, sequence, changedAt) = (NewTracking(), 0, new long[ByteBlocks.CountOf(content.Length)]);
    }

    internal void Revert(VSphereFrozenDisk frozen)
    {
        content = [.. frozen.Content];
        LoseTracking();
    }

    internal VSphereFrozenDisk Freeze(bool isTracked)
    {
        sequence++;
        return new VSphereFrozenDisk(key, label, [.. content], isTracked ? Now.ToString() : "", [.. changedAt]);
    }

    private static string NewTracking() => $"52 {Interlocked.Increment(ref trackings):x8}";
}
