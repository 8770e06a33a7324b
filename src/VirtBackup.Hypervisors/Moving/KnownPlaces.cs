using VirtBackup.Core;
using VirtBackup.Hypervisors.Qemu;

namespace VirtBackup.Hypervisors.Moving;

/// <summary>Which files and folders of this host are machines', by the records in the agent's folder. What cannot be read there is left out.</summary>
internal static class KnownPlaces
{
    private static readonly string[] Kinds = ["adopted", "retired", "moving", "seen"];

    /// <summary>The machine that came to this host into a folder that the path is, or lies in; null: there is none.</summary>
    /// <param name="besides">A machine that may have it.</param>
    public static AdoptedMachine? FindOwner(MovingRecords records, string path, Id16? besides = null) =>
        records.ListAdopted().Where(machine => machine != besides).Select(machine => TryRead(() => records.FindAdopted(machine))).OfType<AdoptedMachine>()
            .FirstOrDefault(adopted => MachineFolder.Holds(adopted.Folder, path));

    /// <summary>Files and folders of all machines but one.</summary>
    public static IReadOnlyCollection<string> ListOthers(string? stateFolder, Id16 machine)
    {
        if (stateFolder is null || !Directory.Exists(stateFolder))
        {
            return [];
        }
        var records = new MovingRecords(stateFolder);
        var others = Kinds.SelectMany(kind => Directory.EnumerateFiles(stateFolder, $"{kind}-*.json").Select(path => Path.GetFileNameWithoutExtension(path)[(kind.Length + 1)..]))
            .Select(static name => Id16.TryParse(name, out var id) ? id : default).Where(id => !id.IsEmpty && id != machine).Distinct();
        return [.. others.SelectMany(other => ListOf(stateFolder, records, other)).ToHashSet(StringComparer.Ordinal)];
    }

    private static IEnumerable<string> ListOf(string stateFolder, MovingRecords records, Id16 machine) =>
    [
        .. TryRead(() => records.FindAdopted(machine)) is { } adopted ? [adopted.Folder] : Array.Empty<string>(),
        .. TryRead(() => records.FindRetired(machine)) is { Deleted: false } retired ? retired.Files.SelectMany(static file => new[] { file.From, file.To }) : [],
        .. TryRead(() => MoveJournal.Find(stateFolder, machine)) is { } journal ? journal.Disks.SelectMany(static disk => new[] { disk.OldPath, disk.NewPath }) : [],
        .. TryRead(() => LastSeen.Read(stateFolder, machine)) is { } seen ? seen.Disks.Select(disk => Path.GetFullPath(disk.File, seen.WorkingDirectory)) : [],
    ];

    private static T? TryRead<T>(Func<T?> read) where T : class
    {
        try
        {
            return read();
        }
        catch (FaultException)
        {
            return null;
        }
    }
}
