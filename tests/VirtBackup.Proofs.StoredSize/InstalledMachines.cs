using VirtBackup.Testing.Lab;

namespace VirtBackup.Proofs.StoredSize;

/// <summary>
/// A sequence made of this system's own files, in ext4 images: a machine, its second day with some files written anew and
/// logs that grew, a clone of that, and a machine that was installed separately, with most of the same files in another
/// order on a larger disk.
/// </summary>
internal static class InstalledMachines
{
    private const int LogsMade = 4;

    /// <param name="folder">Where the images go.</param>
    /// <param name="random">Decides which files.</param>
    /// <param name="contentBytes">About so much is in each image.</param>
    /// <param name="cancellationToken">Stops between steps.</param>
    public static async Task<IReadOnlyList<Step>> PrepareAsync(string folder, Random random, long contentBytes, CancellationToken cancellationToken)
    {
        var tree = Path.Combine(folder, "tree");
        var files = await SystemImages.InstallAsync(tree, random, contentBytes, cancellationToken);
        var first = await SystemImages.MakeAsync(tree, Path.Combine(folder, "first.raw"), contentBytes * 2, 16384, random, cancellationToken);
        var second = await ChangeAsync(first, Path.Combine(folder, "second.raw"), SystemImages.Sample(files, 0.02, random), contentBytes / 100);
        var clone = await ChangeAsync(second, Path.Combine(folder, "clone.raw"), SystemImages.Sample(files, 0.002, random), contentBytes / 2000);
        var other = Path.Combine(folder, "other-tree");
        await InstallElsewhereAsync(files, tree, other, random, cancellationToken);
        var separate = await SystemImages.MakeAsync(other, Path.Combine(folder, "separate.raw"), contentBytes * 3, 32768, random, cancellationToken);
        Directory.Delete(tree, recursive: true);
        Directory.Delete(other, recursive: true);
        return [new Step("first day", 1, first), new Step("second day", 1, second), new Step("clone", 2, clone), new Step("separate", 3, separate)];

        Task<string> ChangeAsync(string image, string path, List<string> rewritten, long logBytes) => SystemImages.ChangeAsync(
            image, path, tree, rewritten, fresh => WriteLogsAsync(Path.GetFileNameWithoutExtension(path), logBytes, fresh, random, cancellationToken), random, cancellationToken);
    }

    /// <summary>Most of the same files, written in another order: a file system puts them elsewhere.</summary>
    private static async Task InstallElsewhereAsync(List<string> files, string tree, string other, Random random, CancellationToken cancellationToken)
    {
        var order = files.ToArray();
        random.Shuffle(order);
        foreach (var name in order.Skip(order.Length / 10))
        {
            var target = Path.Combine(other, "system", name);
            Directory.CreateDirectory(Path.GetDirectoryName(target)!);
            File.Copy(Path.Combine(tree, name), target);
            cancellationToken.ThrowIfCancellationRequested();
        }
        await Task.Yield();
    }

    private static async Task<IReadOnlyList<ImageFile>> WriteLogsAsync(string name, long bytes, string folder, Random random, CancellationToken cancellationToken)
    {
        var logs = new List<ImageFile>();
        for (var i = 0; i < LogsMade; i++)
        {
            var source = Path.Combine(folder, $"log-{i}");
            await File.WriteAllTextAsync(source, SystemImages.WriteLog(bytes / LogsMade, random), cancellationToken);
            logs.Add(new ImageFile($"{name}-{i}.log", source));
        }
        return logs;
    }
}
