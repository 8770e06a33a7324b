using System.Text.Json;
using System.Text.Json.Serialization;
using VirtBackup.Core;

namespace VirtBackup.Hypervisors.Images;

/// <summary>
/// Gives new images the names of old ones, all or none: the old ones stay under another name until the new machine is
/// complete, and a journal beside the first image tells a later run to go back when this one broke off. From the moment the
/// new machine may run, the later run goes on instead: what a guest has written since must not be lost.
/// </summary>
internal sealed class ReplacementJournal(IReadOnlyList<string> images)
{
    private const string JournalEnding = ".virtbackup-replacing";
    private const string NewEnding = ".virtbackup-new";
    private const string OldEnding = ".virtbackup-old";

    private string Journal => images[0] + JournalEnding;

    /// <summary>Where the new image is written until it takes its place.</summary>
    public static string NewPath(string image) => image + NewEnding;

    /// <summary>Puts the new images into the places of the old ones. On failure the old ones are in their places.</summary>
    public void Swap()
    {
        DurableFile.Write(Journal, JsonSerializer.SerializeToUtf8Bytes(images));
        try
        {
            foreach (var image in images)
            {
                if (File.Exists(image))
                {
                    File.Move(image, image + OldEnding, overwrite: true);
                }
                File.Move(NewPath(image), image);
            }
            FlushFolders(images);
        }
        catch (Exception failure)
        {
            GoBack();
            throw failure is IOException or UnauthorizedAccessException
                ? new FaultException(FaultReason.FailedPrecondition, $"The old images could not be replaced and are as they were: {failure.Message}", failure) : failure;
        }
    }

    /// <summary>The new machine is about to run: a run that breaks off from here on is finished, and keeps the old images.</summary>
    /// <param name="keepAs">Ending of the names under which it keeps them.</param>
    public void NoteStart(string keepAs) => DurableFile.Write(Journal, JsonSerializer.SerializeToUtf8Bytes(new Started(images, keepAs)));

    /// <summary>Puts the old images back and drops the new ones.</summary>
    public void GoBack() => GoBack(images, Journal);

    /// <summary>The new machine is complete.</summary>
    /// <param name="keepAs">Ending of the names under which old images stay; null removes them.</param>
    /// <returns>The old images that stay.</returns>
    public IReadOnlyList<string> Commit(string? keepAs) => Commit(images, Journal, keepAs);

    private static List<string> Commit(IReadOnlyList<string> images, string journal, string? keepAs)
    {
        File.Delete(journal);
        DurableFolder.Flush(Path.GetDirectoryName(journal)!);
        var kept = new List<string>();
        foreach (var image in images.Where(image => File.Exists(image + OldEnding)))
        {
            if (keepAs is null)
            {
                File.Delete(image + OldEnding);
                continue;
            }
            File.Move(image + OldEnding, image + keepAs, overwrite: true);
            kept.Add(image + keepAs);
        }
        FlushFolders(images);
        return kept;
    }

    /// <summary>Undoes a replacement of these images that broke off, or finishes it when the new machine may have run. Does nothing when there is none.</summary>
    public static void Recover(IEnumerable<string> images)
    {
        foreach (var journal in images.Select(image => image + JournalEnding).Where(File.Exists))
        {
            try
            {
                var bytes = File.ReadAllBytes(journal);
                if (bytes is [(byte)'{', ..])
                {
                    var started = JsonSerializer.Deserialize<Started>(bytes)!;
                    Commit(started.Images, journal, started.KeepAs);
                }
                else
                {
                    GoBack(JsonSerializer.Deserialize<string[]>(bytes) ?? [], journal);
                }
            }
            catch (Exception failure) when (failure is IOException or UnauthorizedAccessException or JsonException)
            {
                throw new FaultException(FaultReason.FailedPrecondition,
                    $"A replacement of disks broke off and cannot be undone ({failure.Message}). See {journal}: rename each image that ends with {OldEnding} back to its name, then remove that file.", failure);
            }
        }
    }

    /// <summary>Removes new images of a replacement that was killed before they were complete. Not while one is under way.</summary>
    public static void RemoveUnfinished(IEnumerable<string> images)
    {
        try
        {
            foreach (var image in images.Where(image => Directory.Exists(Path.GetDirectoryName(image))))
            {
                File.Delete(NewPath(image));
                File.Delete(ImageWriter.UnfinishedPath(NewPath(image)));
            }
        }
        catch (Exception failure) when (failure is IOException or UnauthorizedAccessException)
        {
            // The next replacement overwrites them.
        }
    }

    private static void GoBack(IReadOnlyList<string> images, string journal)
    {
        foreach (var image in images)
        {
            if (File.Exists(image + OldEnding))
            {
                File.Move(image + OldEnding, image, overwrite: true);
            }
            File.Delete(NewPath(image));
        }
        FlushFolders(images);
        File.Delete(journal);
        DurableFolder.Flush(Path.GetDirectoryName(journal)!);
    }

    private static void FlushFolders(IEnumerable<string> images)
    {
        foreach (var folder in images.Select(image => Path.GetDirectoryName(image)!).Distinct())
        {
            DurableFolder.Flush(folder);
        }
    }

    private sealed record Started([property: JsonRequired] IReadOnlyList<string> Images, [property: JsonRequired] string KeepAs);
}
