using VirtBackup.Core;

namespace VirtBackup.Testing.Platforms.HyperV;

/// <summary>
/// A server shaped as Hyper-V is: checkpoints of a whole machine, which can be converted into reference points; a tracking id
/// (RCT) per disk, which holds as long as a checkpoint or reference point carries it; changed ranges asked for by offset and
/// length. Reference points get their id from the server and have no name. Members are to be called through a
/// <see cref="ServerLink"/>, except by a test that plays the guest, the operator or another tool.
/// </summary>
public sealed class HyperVServer
{
    private readonly Dictionary<Id16, HyperVMachine> machines = [];
    private int names;

    /// <summary>Changed ranges in one answer.</summary>
    public int RangesMax { get; set; } = 3;

    /// <summary>How often one must ask until a checkpoint that went is merged.</summary>
    public int MergeSteps { get; set; } = 2;

    public MemoryDatastore Datastore { get; } = new();

    public HyperVMachine Add(Id16 id, string name)
    {
        var machine = new HyperVMachine(id, name);
        machines.Add(id, machine);
        return machine;
    }

    public HyperVMachine Find(Id16 id) => machines.GetValueOrDefault(id) ?? throw new FaultException(FaultReason.NotFound, $"The server has no machine {id}.");

    public HyperVCheckpoint CreateCheckpoint(Id16 machine, string name)
    {
        var found = Find(machine);
        if (found.MergeLeft > 0)
        {
            throw new FaultException(FaultReason.FailedPrecondition, $"A checkpoint of {found.Name} is being merged.");
        }
        var checkpoint = new HyperVCheckpoint($"checkpoint-{++names}", name, [.. found.Disks.Where(disk => disk.Passthrough is null).Select(disk => disk.Freeze($"rctX:{++names:x8}"))]);
        found.Checkpoints.Add(checkpoint);
        return checkpoint;
    }

    /// <summary>Removes a checkpoint; its tracking ids end, and its disks begin to merge.</summary>
    public void DestroyCheckpoint(Id16 machine, string id)
    {
        var (found, checkpoint) = Take(machine, id);
        found.Forget(checkpoint.Disks.Select(disk => disk.TrackingId));
    }

    /// <summary>Turns a checkpoint into a reference point that carries its tracking ids; its disks begin to merge.</summary>
    public string ConvertToReferencePoint(Id16 machine, string id)
    {
        var (found, checkpoint) = Take(machine, id);
        var reference = new HyperVReferencePoint($"reference-{++names}", [.. checkpoint.Disks.Select(disk => disk.TrackingId)]);
        found.ReferencePoints.Add(reference);
        return reference.Id;
    }

    /// <summary>Removes a reference point; its tracking ids end.</summary>
    public void DestroyReferencePoint(Id16 machine, string id)
    {
        var found = Find(machine);
        var reference = found.ReferencePoints.Find(candidate => candidate.Id == id) ?? throw new FaultException(FaultReason.NotFound, $"There is no reference point {id}.");
        found.ReferencePoints.Remove(reference);
        found.Forget(reference.TrackingIds);
    }

    /// <summary>Steps left of merging; each look brings it one further.</summary>
    public int LookAtMerge(Id16 machine)
    {
        var found = Find(machine);
        return found.MergeLeft = Math.Max(0, found.MergeLeft - 1);
    }

    /// <summary>
    /// Ranges of a region that changed between a tracking id and a checkpoint: at most <see cref="RangesMax"/>, and how much of the
    /// region they describe, which may be less than all of it.
    /// </summary>
    /// <exception cref="FaultException"><see cref="FaultReason.InvalidArgument"/>: the id is not known for this disk.</exception>
    public (IReadOnlyList<ByteRange> Ranges, long ProcessedLength) GetVirtualDiskChanges(Id16 machine, string checkpoint, string path, string limitId, long offset, long length)
    {
        var disk = Open(machine, checkpoint, path);
        if (!disk.ChangedSince.TryGetValue(limitId, out var blocks))
        {
            throw new FaultException(FaultReason.InvalidArgument, $"The tracking id {limitId} is not known for {path}.");
        }
        var (ranges, end) = ByteBlocks.Page(offset, offset + length, disk.Content.Length, RangesMax, blocks.Contains);
        return (ranges, end - offset);
    }

    public void Read(Id16 machine, string checkpoint, string path, long offset, Span<byte> destination) =>
        Open(machine, checkpoint, path).Content.AsSpan((int)offset, destination.Length).CopyTo(destination);

    private (HyperVMachine Machine, HyperVCheckpoint Checkpoint) Take(Id16 machine, string id)
    {
        var found = Find(machine);
        var checkpoint = found.Checkpoints.Find(candidate => candidate.Id == id) ?? throw new FaultException(FaultReason.NotFound, $"There is no checkpoint {id}.");
        found.Checkpoints.Remove(checkpoint);
        found.MergeLeft += MergeSteps;
        return (found, checkpoint);
    }

    private HyperVFrozenDisk Open(Id16 machine, string checkpoint, string path) =>
        Find(machine).Checkpoints.Find(candidate => candidate.Id == checkpoint)?.Disks.FirstOrDefault(disk => disk.Path == path)
        ?? throw new FaultException(FaultReason.NotFound, $"There is no checkpoint {checkpoint} of {path}.");
}
