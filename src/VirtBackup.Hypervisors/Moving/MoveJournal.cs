using System.Text.Json;
using VirtBackup.Core;

namespace VirtBackup.Hypervisors.Moving;

/// <summary>How far a move is.</summary>
internal enum MoveStage
{
    /// <summary>The machine uses the old images. New ones are nobody's.</summary>
    Copying,
    /// <summary>The machine stands still and may change over at any moment; it has written nothing to the new images alone.</summary>
    Pivoting,
    /// <summary>The machine uses the new images of the disks that are marked as moved.</summary>
    Settled,
}

/// <summary>One disk of a move.</summary>
/// <param name="Node">What the platform knows the old image by.</param>
/// <param name="Job">What it knows the copying, and the new image, by.</param>
internal sealed record MovingDisk(string Name, string OldPath, string NewPath, string OldFormat, string NewFormat, string Node, string Job)
{
    /// <summary>Those that recorded, to be switched on again at the new place.</summary>
    public string[] Bitmaps { get; init; } = [];

    /// <summary>The file at the new place was made by this move.</summary>
    public bool Made { get; init; }

    public bool Moved { get; init; }
}

/// <summary>
/// What a move of a machine is about, durable before each step, in the agent's state folder: whoever comes after a killed run knows what
/// to remove, and which images are the machine's. Not safe for concurrent use.
/// </summary>
internal sealed class MoveJournal
{
    private readonly string path;
    private Entry entry;

    private MoveJournal(string path, Entry entry)
    {
        this.path = path;
        this.entry = entry;
    }

    private sealed record Entry(string Machine, string MachineName, MoveStage Stage, bool KeepSource, string KeptEnding, MovingDisk[] Disks, string[] NewFolders, bool Reserved = false);

    public MoveStage Stage => entry.Stage;

    public string MachineName => entry.MachineName;

    public bool KeepSource => entry.KeepSource;

    /// <summary>Ending of the names under which old images stay.</summary>
    public string KeptEnding => entry.KeptEnding;

    public IReadOnlyList<MovingDisk> Disks => entry.Disks;

    public IReadOnlyList<string> NewFolders => entry.NewFolders;

    public string FilePath => path;

    public static string PathOf(string stateFolder, Id16 machine) => Path.Combine(stateFolder, $"moving-{machine}.json");

    /// <summary>Durable when this returns; nothing of the move exists before.</summary>
    /// <param name="newFolders">That do not exist yet.</param>
    public static MoveJournal Begin(
        string stateFolder, Id16 machine, string name, string tag, bool keepSource, IReadOnlyList<MovingDisk> disks, IReadOnlyList<string> newFolders)
    {
        PrivateFolder.Create(stateFolder);
        var journal = new MoveJournal(PathOf(stateFolder, machine),
            new Entry(machine.ToUuidString(), name, MoveStage.Copying, keepSource, $".moved-{tag}", [.. disks], [.. newFolders]));
        journal.Save();
        return journal;
    }

    /// <summary>The journal of a move of this machine that is not over, or null.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.FailedPrecondition"/>: it cannot be read.</exception>
    public static MoveJournal? Find(string? stateFolder, Id16 machine) => stateFolder is null ? null : Read(PathOf(stateFolder, machine));

    /// <inheritdoc cref="Find"/>
    public static MoveJournal? Read(string path)
    {
        try
        {
            if (!File.Exists(path))
            {
                return null;
            }
            return JsonSerializer.Deserialize<Entry>(File.ReadAllBytes(path)) is { Disks: not null, NewFolders: not null, KeptEnding.Length: > 0 } entry
                ? new MoveJournal(path, entry) : throw new JsonException("it is empty");
        }
        catch (Exception failure) when (failure is IOException or UnauthorizedAccessException or JsonException)
        {
            throw new FaultException(FaultReason.FailedPrecondition,
                $"A move of the machine's disks broke off, and its journal {path} cannot be read ({failure.Message}). See which images the machine uses, remove the others, then that file.", failure);
        }
    }

    /// <summary>Durable when this returns.</summary>
    public void Enter(MoveStage stage, IReadOnlyList<MovingDisk>? disks = null)
    {
        entry = entry with { Stage = stage, Disks = disks is null ? entry.Disks : [.. disks] };
        Save();
    }

    /// <summary>The new places are taken: from here on only files that are marked as made are this move's. Durable when this returns.</summary>
    public void Reserve(IReadOnlySet<string> made)
    {
        entry = entry with { Disks = [.. entry.Disks.Select(disk => disk with { Made = made.Contains(disk.NewPath) })], Reserved = true };
        Save();
    }

    /// <summary>The move is over, one way or the other.</summary>
    public void Remove()
    {
        File.Delete(path);
        DurableFolder.Flush(Path.GetDirectoryName(path)!);
    }

    /// <summary>Deletes what this move made at the new place of disks that did not move; what anybody else put there stays.</summary>
    public void RemoveTargets()
    {
        foreach (var disk in entry.Disks.Where(disk => !disk.Moved && File.Exists(disk.NewPath) && IsOurs(disk)))
        {
            File.Delete(disk.NewPath);
        }
        foreach (var folder in Enumerable.Reverse(entry.NewFolders))
        {
            if (Directory.Exists(folder) && !Directory.EnumerateFileSystemEntries(folder).Any())
            {
                Directory.Delete(folder);
            }
        }
    }

    // A process that died while it took the places could not write down which it had: those files are empty.
    private bool IsOurs(MovingDisk disk) => disk.Made || (!entry.Reserved && new FileInfo(disk.NewPath).Length == 0);

    /// <summary>Deletes the old images of disks that moved, or gives them another name. Devices stay as they are.</summary>
    /// <param name="inUse">Old images that somebody still uses: they stay.</param>
    /// <returns>Old images that are still there.</returns>
    public IReadOnlyList<string> RemoveSources(IReadOnlySet<string> inUse)
    {
        var kept = new List<string>();
        foreach (var disk in entry.Disks.Where(static disk => disk.Moved))
        {
            var old = disk.OldPath;
            if (Images.BlockDevice.Is(old) || inUse.Contains(old))
            {
                kept.Add(old);
            }
            else if (entry.KeepSource)
            {
                // Under its old name, a command line that nobody corrected would start the machine from it.
                if (File.Exists(old))
                {
                    File.Move(old, old + entry.KeptEnding, overwrite: true);
                }
                kept.Add(old + entry.KeptEnding);
            }
            else if (File.Exists(old))
            {
                File.Delete(old);
            }
            if (Directory.Exists(Path.GetDirectoryName(old)))
            {
                DurableFolder.Flush(Path.GetDirectoryName(old)!);
            }
        }
        return kept;
    }

    private void Save() => DurableFile.WritePrivate(path, JsonSerializer.SerializeToUtf8Bytes(entry));
}
