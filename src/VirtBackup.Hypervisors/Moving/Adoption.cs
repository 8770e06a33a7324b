using VirtBackup.Core;

namespace VirtBackup.Hypervisors.Moving;

/// <summary>Records around a restore by which a machine comes to this host, and what is known of its disks until it is started.</summary>
internal sealed class Adoption(MovingRecords records, RestoreRequest request)
{
    /// <summary>What stands in the way; empty: nothing.</summary>
    public static IEnumerable<RestoreFinding> Check(MovingRecords records, RestoreRequest request)
    {
        var retired = records.FindRetired(request.Machine);
        if (retired is { Deleted: false })
        {
            yield return Blocks($"A copy of {request.Name} that moved away is still on this host. Remove it first (virtbackup migrate remove-source).");
        }
        if (retired is null && records.FindAdopted(request.Machine) is { } adopted)
        {
            yield return Blocks($"{request.Name} is on this host already, in {adopted.Folder}.");
        }
    }

    /// <summary>From here on the folder is the machine's, and removed with it.</summary>
    /// <param name="machine">Where its sockets and launch files will be; <see cref="AdoptedMachine.Complete"/> is false.</param>
    public void Begin(AdoptedMachine machine)
    {
        if (Directory.Exists(request.Folder) && Directory.EnumerateFileSystemEntries(request.Folder).Any())
        {
            throw new FaultException(FaultReason.FailedPrecondition, $"The folder {request.Folder} is not empty. Choose another one.");
        }
        records.Write(machine);
        records.RemoveRetired(request.Machine);
    }

    /// <summary>Its disks are whole, and it can be started.</summary>
    public void Complete(IReadOnlyList<string> disks)
    {
        var adopted = records.FindAdopted(request.Machine) ?? throw new FaultException(FaultReason.FailedPrecondition, $"{request.Name} was removed from this host while it was restored.");
        // One record: whoever sees it complete sees all of it.
        records.Write(Stamped(adopted with { Complete = true }, request, disks));
    }

    /// <summary>Its disks must stay, whatever comes: it was made.</summary>
    public bool IsComplete => records.FindAdopted(request.Machine) is { Complete: true };

    /// <summary>The restore is over without having made a machine, and has removed its files.</summary>
    public void Withdraw()
    {
        if (records.FindAdopted(request.Machine) is { Complete: false } adopted && adopted.Folder == request.Folder)
        {
            records.RemoveAdopted(request.Machine);
        }
    }

    /// <summary>Remembers what the disks of an adopted machine hold; nothing happens for other machines.</summary>
    public static void Stamp(MovingRecords records, RestoreRequest request, IReadOnlyList<string> disks)
    {
        if (records.FindAdopted(request.Machine) is { Complete: true } adopted && !request.DisksOnly)
        {
            records.Write(Stamped(adopted, request, disks));
        }
    }

    private static AdoptedMachine Stamped(AdoptedMachine adopted, RestoreRequest request, IReadOnlyList<string> disks) =>
        adopted with { Point = request.Point.ToString(), Stamps = [.. disks.Where(File.Exists).Select(FileStamp.Of)] };

    /// <summary>Takes what is remembered of the disks; before anything is written to them, or they are started.</summary>
    /// <returns>The point that an image holds unchanged, by its path.</returns>
    public static IReadOnlyDictionary<string, Id16> TakeStamps(MovingRecords records, Id16 machine)
    {
        if (records.FindAdopted(machine) is not { Complete: true, Point: { } point } adopted)
        {
            return new Dictionary<string, Id16>();
        }
        var held = adopted.Stamps.Where(static stamp => File.Exists(stamp.Path) && FileStamp.Of(stamp.Path) == stamp).ToDictionary(static stamp => stamp.Path, _ => Id16.Parse(point), StringComparer.Ordinal);
        records.Write(adopted with { Point = null, Stamps = [] });
        return held;
    }

    private static RestoreFinding Blocks(string message) => new("identity", FindingSeverity.Blocks, message);
}
