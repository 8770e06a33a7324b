using VirtBackup.Core;

namespace VirtBackup.Testing.Platforms.VSphere;

/// <summary>
/// A server shaped as vSphere is: snapshots of a whole machine, a change id per disk and snapshot, changed areas asked for page
/// by page, disks read at any offset or as an export that only goes forward, consolidation that takes its time. Members are to
/// be called through a <see cref="ServerLink"/>, except by a test that plays the guest, the operator or another tool.
/// </summary>
public sealed class VSphereServer
{
    private readonly Dictionary<Id16, VSphereMachine> machines = [];
    private readonly Dictionary<int, (VSphereFrozenDisk Disk, long At)> leases = [];
    private int names;

    /// <summary>Changed areas in one answer.</summary>
    public int AreasMax { get; set; } = 3;

    /// <summary>How often one must ask until a removed snapshot is consolidated.</summary>
    public int ConsolidationSteps { get; set; } = 2;

    public MemoryDatastore Datastore { get; } = new();

    public int OpenLeases => leases.Count;

    public VSphereMachine Add(Id16 id, string name)
    {
        var machine = new VSphereMachine(id, name);
        machines.Add(id, machine);
        return machine;
    }

    public VSphereMachine Find(Id16 id) => machines.GetValueOrDefault(id) ?? throw new FaultException(FaultReason.NotFound, $"The server has no machine {id}.");

    public void EnableChangeTracking(Id16 machine) => Find(machine).ChangeTracking = true;

    public VSphereSnapshot CreateSnapshot(Id16 machine, string name)
    {
        var found = Find(machine);
        if (found.ConsolidationLeft > 0)
        {
            throw new FaultException(FaultReason.FailedPrecondition, $"{found.Name} is being consolidated.");
        }
        var snapshot = new VSphereSnapshot($"snapshot-{++names}", name, [.. found.Disks.Where(disk => disk.OutsideSnapshots is null).Select(disk => disk.Freeze(found.ChangeTracking))]);
        found.Snapshots.Add(snapshot);
        return snapshot;
    }

    /// <summary>Takes the snapshot out of the tree and begins to consolidate its disks.</summary>
    public void RemoveSnapshot(Id16 machine, string id)
    {
        var found = Find(machine);
        var snapshot = found.Snapshots.Find(candidate => candidate.Id == id) ?? throw new FaultException(FaultReason.NotFound, $"There is no snapshot {id}.");
        found.Snapshots.Remove(snapshot);
        found.ConsolidationLeft += ConsolidationSteps;
        foreach (var lease in leases.Where(lease => snapshot.Disks.Contains(lease.Value.Disk)).Select(lease => lease.Key).ToList())
        {
            leases.Remove(lease);
        }
    }

    /// <summary>Steps left of the consolidation; each look brings it one further.</summary>
    public int LookAtConsolidation(Id16 machine)
    {
        var found = Find(machine);
        return found.ConsolidationLeft = Math.Max(0, found.ConsolidationLeft - 1);
    }

    /// <summary>
    /// What changed on a disk since a change id, from an offset on: at most <see cref="AreasMax"/> areas, and up to where they
    /// describe the disk. "*" stands for the time before everything: what is allocated.
    /// </summary>
    /// <exception cref="FaultException"><see cref="FaultReason.InvalidArgument"/>: the id does not hold for this disk.</exception>
    public (IReadOnlyList<ByteRange> Areas, long DescribedTo) QueryChangedDiskAreas(Id16 machine, string snapshot, int key, long startOffset, string changeId)
    {
        var disk = Open(machine, snapshot, key);
        if (changeId == "*")
        {
            return ByteBlocks.Page(startOffset, disk.Content.Length, disk.Content.Length, AreasMax, block => IsAllocated(disk.Content, block));
        }
        if (!ChangeId.TryParse(changeId, out var since) || !ChangeId.TryParse(disk.ChangeId, out var now) || since.Tracking != now.Tracking || since.Sequence > now.Sequence)
        {
            throw new FaultException(FaultReason.InvalidArgument, $"The change id {changeId} does not hold for disk {key}.");
        }
        return ByteBlocks.Page(startOffset, disk.Content.Length, disk.Content.Length, AreasMax, block => disk.ChangedAt[block] >= since.Sequence);
    }

    public void Read(Id16 machine, string snapshot, int key, long offset, Span<byte> destination) =>
        Open(machine, snapshot, key).Content.AsSpan((int)offset, destination.Length).CopyTo(destination);

    /// <summary>An export of one disk: its bytes, once, forward.</summary>
    public int OpenExport(Id16 machine, string snapshot, int key)
    {
        leases.Add(++names, (Open(machine, snapshot, key), 0));
        return names;
    }

    /// <summary>The next bytes of an export.</summary>
    public void ReadExport(int lease, Span<byte> destination)
    {
        if (!leases.TryGetValue(lease, out var export))
        {
            throw new FaultException(FaultReason.NotFound, $"The lease {lease} has ended.");
        }
        export.Disk.Content.AsSpan((int)export.At, destination.Length).CopyTo(destination);
        leases[lease] = export with { At = export.At + destination.Length };
    }

    public void CloseExport(int lease) => leases.Remove(lease);

    private VSphereFrozenDisk Open(Id16 machine, string snapshot, int key) =>
        Find(machine).Snapshots.Find(candidate => candidate.Id == snapshot)?.Disks.FirstOrDefault(disk => disk.Key == key)
        ?? throw new FaultException(FaultReason.NotFound, $"There is no snapshot {snapshot} of disk {key}.");

    private static bool IsAllocated(byte[] content, int block)
    {
        var from = block * ByteBlocks.Bytes;
        return content.AsSpan(from, Math.Min(ByteBlocks.Bytes, content.Length - from)).ContainsAnyExcept((byte)0);
    }
}

/// <summary>A change id: which tracking, and how far it had come.</summary>
public readonly record struct ChangeId(string Tracking, long Sequence)
{
    public static bool TryParse(string text, out ChangeId id)
    {
        var parts = (text ?? "").Split('/');
        var isOne = parts.Length == 2 && long.TryParse(parts[1], out var sequence) && sequence >= 0;
        id = isOne ? new ChangeId(parts[0], long.Parse(parts[1], System.Globalization.CultureInfo.InvariantCulture)) : default;
        return isOne;
    }

    public override string ToString() => $"{Tracking}/{Sequence}";
}
