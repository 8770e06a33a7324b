using System.Text.Json;
using VirtBackup.Core;

namespace VirtBackup.Hypervisors.Images;

/// <summary>
/// Gives new images the names of old ones, all or none: the old ones stay under another name until the new machine is
/// complete, and a journal beside the first image tells a later run to go back when this one broke off.
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

    /// <summary>Puts the old images back and drops the new ones.</summary>
    public void GoBack() => GoBack(images, Journal);

    /// <summary>The new machine is complete.</summary>
    /// <param name="keepAs">Ending of the names under which old images stay; null removes them.</param>
    /// <returns>The old images that stay.</returns>
    public IReadOnlyList<string> Commit(string? keepAs)
    {
        File.Delete(Journal);
        DurableFolder.Flush(Path.GetDirectoryName(Journal)!);
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

    /// <summary>Undoes a replacement of these images that broke off. Does nothing when there is none.</summary>
    public static void Recover(IEnumerable<string> images)
    {
        foreach (var journal in images.Select(image => image + JournalEnding).Where(File.Exists))
        {
            try
            {
                GoBack(JsonSerializer.Deserialize<string[]>(File.ReadAllBytes(journal)) ?? [], journal);
            }
            catch (Exception failure) when (failure is IOException or UnauthorizedAccessException or JsonException)
            {
                throw new FaultException(FaultReason.FailedPrecondition,
                    $"A replacement of disks broke off and cannot be undone ({failure.Message}). See {journal}: rename each image that ends with {OldEnding} back to its name, then remove that file.", failure);
            }
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
}
