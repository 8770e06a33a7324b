using System.Text.Json;
using VirtBackup.Core;

namespace VirtBackup.Hypervisors.Images;

/// <summary>
/// Gives new images the names of old ones, all or none: the old ones stay under another name until the new machine is
/// complete, and a journal beside the first image tells a later run what to do when this one broke off: to go back, or, once
/// the new machine may have been started, to leave it what it runs on. Not safe for concurrent use.
/// </summary>
internal sealed class ReplacementJournal
{
    private const string JournalEnding = ".virtbackup-replacing";
    private const string NewEnding = ".virtbackup-new";
    private const string OldEnding = ".virtbackup-old";
    private readonly Entry _entry;
    private readonly string _path;

    /// <param name="images">Where the images belong; disks first.</param>
    /// <param name="keptEnding">Ending of the names under which old images can stay.</param>
    /// <param name="definition">The machine's definition before, for platforms that keep one apart from the disks; only the agent's account can read it.</param>
    public ReplacementJournal(IReadOnlyList<string> images, string keptEnding, string? definition = null)
    {
        _entry = new Entry([.. images], [.. images.Where(image => !File.Exists(image))], keptEnding, definition, Settled: false);
        // A machine is asked for its disks when a journal is looked for: it has those that exist.
        _path = (images.FirstOrDefault(File.Exists) ?? images[0]) + JournalEnding;
    }

    private ReplacementJournal(Entry entry, string path)
    {
        _entry = entry;
        _path = path;
    }

    /// <param name="Added">Images that did not exist before.</param>
    /// <param name="Settled">The new machine may have been started.</param>
    private sealed record Entry(string[] Images, string[] Added, string KeptEnding, string? Definition, bool Settled);

    /// <summary>The machine's definition before.</summary>
    public string? Definition => _entry.Definition;

    /// <summary>The new machine may have been started: whoever finds the journal must not go back.</summary>
    public bool IsSettled { get; private set; }

    /// <summary>Nobody goes back any more, and the journal stays.</summary>
    public bool IsLeft { get; private set; }

    /// <summary>Where the new image is written until it takes its place.</summary>
    public static string NewPath(string image) => image + NewEnding;

    /// <summary>The journal of a replacement of these images that broke off, or null.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.FailedPrecondition"/>: it cannot be read.</exception>
    public static ReplacementJournal? Find(IEnumerable<string> images)
    {
        foreach (var path in images.Select(image => image + JournalEnding).Where(File.Exists))
        {
            try
            {
                var entry = JsonSerializer.Deserialize<Entry>(File.ReadAllBytes(path));
                if (entry is not { Images.Length: > 0, Added: not null, KeptEnding.Length: > 0 })
                {
                    throw new JsonException("it is empty");
                }
                return new ReplacementJournal(entry, path) { IsSettled = entry.Settled };
            }
            catch (Exception failure) when (failure is IOException or UnauthorizedAccessException or JsonException)
            {
                throw Unusable(path, failure);
            }
        }
        return null;
    }

    /// <summary>Undoes, or finishes, a replacement of these images that broke off, of a machine that is off. Does nothing when there is none.</summary>
    public static void Recover(IEnumerable<string> images) => Find(images)?.Recover();

    /// <summary>
    /// Brings these images in order when the agent starts, and nothing can be at work on them: <see cref="Recover(IEnumerable{string})"/>, and new images
    /// that a killed run did not complete go.
    /// </summary>
    public static void CleanUp(IReadOnlyList<string> images)
    {
        Recover(images);
        foreach (var path in images.Select(NewPath))
        {
            File.Delete(path);
            File.Delete(ImageWriter.UnfinishedPath(path));
        }
    }

    /// <summary>Puts the new images into the places of the old ones. On failure the old ones are in their places.</summary>
    public void Swap()
    {
        Write(settled: false);
        try
        {
            foreach (var image in _entry.Images)
            {
                if (File.Exists(image))
                {
                    File.Move(image, image + OldEnding, overwrite: true);
                }
                File.Move(NewPath(image), image);
            }
            FlushFolders();
        }
        catch (Exception failure)
        {
            GoBack();
            throw failure is IOException or UnauthorizedAccessException
                ? new FaultException(FaultReason.FailedPrecondition, $"The old images could not be replaced and are as they were: {failure.Message}", failure) : failure;
        }
    }

    /// <summary>To be called before the new machine is started: from then on a run that breaks off is not undone, since the machine may have written.</summary>
    public void Settle()
    {
        Write(settled: true);
        IsSettled = true;
    }

    /// <summary>The new machine does not run and did not: a run that breaks off from here on is undone again.</summary>
    public void Reopen()
    {
        if (IsSettled)
        {
            Write(settled: false);
            IsSettled = false;
        }
    }

    /// <summary>It cannot be told now whether the new machine runs, or the old one cannot be brought back now: that is left to whoever finds the journal.</summary>
    public void Leave() => IsLeft = true;

    /// <summary>Puts the old images back and drops the new ones.</summary>
    public void GoBack()
    {
        Reopen();
        foreach (var image in _entry.Images)
        {
            if (File.Exists(image + OldEnding))
            {
                File.Move(image + OldEnding, image, overwrite: true);
            }
            else if (_entry.Added.Contains(image) && !File.Exists(NewPath(image)))
            {
                File.Delete(image);
            }
            File.Delete(NewPath(image));
        }
        FlushFolders();
        RemoveJournal();
    }

    /// <summary>The new machine is complete.</summary>
    /// <param name="keepOld">Old images stay under another name.</param>
    /// <returns>The old images that stay.</returns>
    public IReadOnlyList<string> Commit(bool keepOld)
    {
        foreach (var image in _entry.Images)
        {
            // A restore in place that broke off left it to the old image.
            InPlaceMark.Remove(image, stateFolder: null);
        }
        RemoveJournal();
        var kept = new List<string>();
        foreach (var image in _entry.Images.Where(image => File.Exists(image + OldEnding)))
        {
            if (!keepOld)
            {
                File.Delete(image + OldEnding);
                continue;
            }
            File.Move(image + OldEnding, image + _entry.KeptEnding, overwrite: true);
            kept.Add(image + _entry.KeptEnding);
        }
        FlushFolders();
        return kept;
    }

    /// <summary>Finishes or undoes a replacement that broke off. Old images stay where it is not known that the new machine came up.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.FailedPrecondition"/>: the system refuses it; the journal stays.</exception>
    public void Recover()
    {
        try
        {
            if (IsSettled)
            {
                Commit(keepOld: true);
            }
            else
            {
                GoBack();
            }
        }
        catch (Exception failure) when (failure is IOException or UnauthorizedAccessException)
        {
            throw Unusable(_path, failure);
        }
    }

    private static FaultException Unusable(string path, Exception failure) => new(FaultReason.FailedPrecondition,
        $"A replacement of disks broke off and cannot be undone ({failure.Message}). See {path}: rename each image that ends with {OldEnding} back to its name, then remove that file.", failure);

    private void Write(bool settled) => DurableFile.WritePrivate(_path, JsonSerializer.SerializeToUtf8Bytes(_entry with { Settled = settled }));

    private void RemoveJournal()
    {
        File.Delete(_path);
        DurableFolder.Flush(Path.GetDirectoryName(_path)!);
    }

    private void FlushFolders()
    {
        foreach (var folder in _entry.Images.Select(image => Path.GetDirectoryName(image)!).Distinct())
        {
            DurableFolder.Flush(folder);
        }
    }
}
