using VirtBackup.Core;

namespace VirtBackup.Testing.Platforms.HyperV;

/// <summary>A machine on the server, as the server, its guest and its operators see it.</summary>
public sealed class HyperVMachine(Id16 id, string name)
{
    private int disks;

    public Id16 Id => id;

    public string Name => name;

    public List<HyperVDisk> Disks { get; } = [];

    public List<HyperVCheckpoint> Checkpoints { get; } = [];

    public List<HyperVReferencePoint> ReferencePoints { get; } = [];

    public int MergeLeft { get; set; }

    /// <param name="passthrough">Why checkpoints leave the disk out, or null.</param>
    public HyperVDisk AddDisk(byte[] content, string? passthrough = null)
    {
        var disk = new HyperVDisk($"disk{disks}.vhdx", content, passthrough);
        disks++;
        Disks.Add(disk);
        return disk;
    }

    public HyperVDisk Disk(string path) => Disks.Single(disk => disk.Path == path);

    /// <summary>A live migration that did not take the reference points along.</summary>
    public void LoseReferencePoints()
    {
        ReferencePoints.Clear();
        foreach (var disk in Disks)
        {
            disk.LoseTracking();
        }
    }

    internal void Forget(IEnumerable<string> trackingIds)
    {
        foreach (var trackingId in trackingIds)
        {
            foreach (var disk in Disks)
            {
                disk.Forget(trackingId);
            }
        }
    }
}

/// <param name="Name">Given by who made it.</param>
public sealed record HyperVCheckpoint(string Id, string Name, IReadOnlyList<HyperVFrozenDisk> Disks);

/// <param name="Id">Given by the server.</param>
/// <param name="TrackingIds">One per disk.</param>
public sealed record HyperVReferencePoint(string Id, IReadOnlyList<string> TrackingIds);

/// <summary>A disk in a checkpoint.</summary>
/// <param name="TrackingId">Begins with the checkpoint.</param>
/// <param name="ChangedSince">Blocks that changed before the checkpoint, by the tracking id since which.</param>
public sealed record HyperVFrozenDisk(string Path, byte[] Content, string TrackingId, IReadOnlyDictionary<string, HashSet<int>> ChangedSince);

/// <summary>A disk of a running machine.</summary>
public sealed class HyperVDisk(string path, byte[] content, string? passthrough)
{
    private readonly Dictionary<string, HashSet<int>> changedSince = new(StringComparer.Ordinal);
    private byte[] content = content;

    public string Path => path;

    public string? Passthrough => passthrough;

    public byte[] Content => content;

    public IReadOnlyCollection<string> TrackingIds => changedSince.Keys;

    public void Write(long offset, ReadOnlySpan<byte> data)
    {
        data.CopyTo(content.AsSpan((int)offset));
        foreach (var blocks in changedSince.Values)
        {
            blocks.UnionWith(ByteBlocks.Touched(offset, data.Length));
        }
    }

    /// <summary>Growing a disk ends its tracking.</summary>
    public void Grow(long length)
    {
        Array.Resize(ref content, (int)length);
        LoseTracking();
    }

    public void LoseTracking() => changedSince.Clear();

    internal void Forget(string trackingId) => changedSince.Remove(trackingId);

    internal HyperVFrozenDisk Freeze(string trackingId)
    {
        var frozen = new HyperVFrozenDisk(path, [.. content], trackingId, changedSince.ToDictionary(entry => entry.Key, entry => entry.Value.ToHashSet(), StringComparer.Ordinal));
        changedSince.Add(trackingId, []);
        return frozen;
    }
}
