using System.Text.Json;
using VirtBackup.Core;
using VirtBackup.Hypervisors.Moving;

namespace VirtBackup.Hypervisors.Qemu.Moving;

/// <summary>
/// Remembers in the agent's state folder which images took the place of which: the command line of a process that runs on says for ever
/// where they were when it was started.
/// </summary>
internal static class MovedDisks
{
    // Of one machine; each counts only as long as its process runs.
    private const int RecordsMax = 4096;

    private sealed record Record(string Name, string OldPath, string NewPath, string NewFormat);

    /// <summary>Durable when this returns. May be repeated.</summary>
    public static void Remember(string stateFolder, Id16 machine, IEnumerable<MovingDisk> moved)
    {
        var records = Read(stateFolder, machine);
        records.AddRange(moved.Select(static disk => new Record(disk.Name, disk.OldPath, disk.NewPath, disk.NewFormat))
            .Where(record => records.FindLast(known => known.Name == record.Name) != record).ToList());
        DurableFile.WritePrivate(PathOf(stateFolder, machine), JsonSerializer.SerializeToUtf8Bytes(records.TakeLast(RecordsMax)));
    }

    /// <summary>The arguments as they would be had the process been started on the images that it uses now.</summary>
    public static IReadOnlyList<string> Apply(string? stateFolder, Id16 machine, QemuProcess process, IReadOnlyList<QemuDisk> disks)
    {
        var records = stateFolder is null ? [] : Read(stateFolder, machine);
        var arguments = process.Arguments;
        foreach (var disk in records.Count == 0 ? [] : disks.Where(disk => disk.File.Length > 0 && !LaterDisks.Names(process.Arguments, disk.File)))
        {
            var image = Path.GetFullPath(disk.File, process.WorkingDirectory);
            var at = image;
            // From the last move to the first: places that were left and taken again do not lead in a circle.
            foreach (var record in Enumerable.Reverse(records).Where(record => record.Name == disk.Summary.Name))
            {
                if (record.NewPath != at)
                {
                    continue;
                }
                at = record.OldPath;
                if (TryMove(arguments, process.WorkingDirectory, new ImageReplacement(at, image, disk.Summary.Format, disk.Summary.Name)) is { } moved)
                {
                    arguments = moved;
                    break;
                }
            }
        }
        return arguments;
    }

    /// <summary>A stored machine on its new images. What names the new ones already stays as it is.</summary>
    public static ArgvDocument Apply(ArgvDocument document, IReadOnlyList<MovingDisk> moved)
    {
        var arguments = document.Arguments;
        var disks = document.Disks.ToList();
        foreach (var disk in moved)
        {
            arguments = TryMove(arguments, document.WorkingDirectory, new ImageReplacement(disk.OldPath, disk.NewPath, disk.NewFormat, disk.Name)) ?? arguments;
            var known = disks.FindIndex(known => known.Name == disk.Name);
            if (known >= 0)
            {
                disks[known] = disks[known] with { File = disk.NewPath, Format = disk.NewFormat };
            }
        }
        return document with { Arguments = arguments, Disks = disks };
    }

    private static IReadOnlyList<string>? TryMove(IReadOnlyList<string> arguments, string workingDirectory, ImageReplacement image)
    {
        var document = new ArgvDocument("qemu", workingDirectory, arguments, [], "/", null);
        var request = new RestoreRequest(default, default, "qemu", new MachineConfiguration("", default, ArgvDocument.Kind, default), [], "", "") { Placement = RestorePlacement.Replace, KeepIdentity = true };
        var (moved, unplaced) = new ArgvRewriter(document, request, [image], SystemEntropy.Instance).MoveImages();
        return unplaced.Count == 0 ? moved : null;
    }

    private static List<Record> Read(string stateFolder, Id16 machine)
    {
        try
        {
            var path = PathOf(stateFolder, machine);
            return File.Exists(path) ? JsonSerializer.Deserialize<List<Record>>(File.ReadAllBytes(path)) ?? [] : [];
        }
        catch (Exception failure) when (failure is IOException or UnauthorizedAccessException or JsonException)
        {
            throw new FaultException(FaultReason.FailedPrecondition, $"What is remembered of the machine's disks cannot be read: {failure.Message}", failure);
        }
    }

    private static string PathOf(string stateFolder, Id16 machine) => Path.Combine(stateFolder, $"moved-{machine}.json");
}
