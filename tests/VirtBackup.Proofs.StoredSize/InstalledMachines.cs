using System.Text;
using VirtBackup.Testing.Lab;

namespace VirtBackup.Proofs.StoredSize;

/// <summary>
/// A sequence made of this system's own files, in ext4 images: a machine, its second day with some files written anew and
/// logs that grew, a clone of that, and a machine that was installed separately, with most of the same files in another
/// order on a larger disk.
/// </summary>
internal static class InstalledMachines
{
    private const long FileBytesMax = 32L << 20;
    private const int BlockBytes = 4096;
    private const int InodeBytes = 256;

    /// <summary>For the journal, the groups' tables and the days that follow.</summary>
    private const long SpareBytes = 24L << 20;

    private static readonly TimeSpan Limit = TimeSpan.FromMinutes(10);

    /// <param name="folder">Where the images go.</param>
    /// <param name="random">Decides which files.</param>
    /// <param name="contentBytes">About so much is in each image.</param>
    /// <param name="cancellationToken">Stops between steps.</param>
    public static async Task<IReadOnlyList<Step>> PrepareAsync(string folder, Random random, long contentBytes, CancellationToken cancellationToken)
    {
        var tree = Path.Combine(folder, "tree");
        var files = await InstallAsync(tree, random, contentBytes, cancellationToken);
        var first = await MakeAsync(tree, Path.Combine(folder, "first.raw"), contentBytes * 2, 16384, random, cancellationToken);
        var second = await ChangeAsync(first, Path.Combine(folder, "second.raw"), Sample(files, 0.02, random), logBytes: contentBytes / 100, folder, random, cancellationToken);
        var clone = await ChangeAsync(second, Path.Combine(folder, "clone.raw"), Sample(files, 0.002, random), logBytes: contentBytes / 2000, folder, random, cancellationToken);
        var other = Path.Combine(folder, "other-tree");
        await InstallElsewhereAsync(files, tree, other, random, cancellationToken);
        var separate = await MakeAsync(other, Path.Combine(folder, "separate.raw"), contentBytes * 3, 32768, random, cancellationToken);
        Directory.Delete(tree, recursive: true);
        Directory.Delete(other, recursive: true);
        return [new Step("first day", 1, first), new Step("second day", 1, second), new Step("clone", 2, clone), new Step("separate", 3, separate)];
    }

    /// <summary>Copies folders of this system until there is enough. Returns the files' paths in the tree.</summary>
    private static async Task<List<string>> InstallAsync(string tree, Random random, long contentBytes, CancellationToken cancellationToken)
    {
        var folders = new[] { "/usr/bin", "/usr/lib", "/usr/share", "/usr/include" }.Where(Directory.Exists)
            .SelectMany(static root => Directory.EnumerateDirectories(root).Append(root))
            .Order(StringComparer.Ordinal).ToArray();
        random.Shuffle(folders);
        var files = new List<string>();
        var seen = new HashSet<string>(StringComparer.Ordinal);
        var bytes = 0L;
        foreach (var source in folders)
        {
            foreach (var file in FilesOf(source))
            {
                if (bytes >= contentBytes)
                {
                    return files;
                }
                var name = file.FullName[1..];
                if (file.Length is 0 or > FileBytesMax || !name.All(static letter => char.IsAsciiLetterOrDigit(letter) || "/._-+".Contains(letter, StringComparison.Ordinal)) || !seen.Add(name))
                {
                    continue;
                }
                var target = Path.Combine(tree, name);
                Directory.CreateDirectory(Path.GetDirectoryName(target)!);
                File.Copy(file.FullName, target);
                cancellationToken.ThrowIfCancellationRequested();
                files.Add(name);
                bytes += file.Length;
            }
            await Task.Yield();
        }
        return bytes >= contentBytes / 2 ? files : throw new LabException($"/usr has only {bytes >> 20} MiB of files that can be used; {contentBytes >> 21} MiB are needed.");
    }

    private static IEnumerable<FileInfo> FilesOf(string source)
    {
        var isRoot = source.Count(static letter => letter == '/') == 2;
        var all = new EnumerationOptions { RecurseSubdirectories = !isRoot, AttributesToSkip = FileAttributes.ReparsePoint, IgnoreInaccessible = true };
        return new DirectoryInfo(source).EnumerateFiles("*", all).OrderBy(static file => file.FullName, StringComparer.Ordinal);
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

    /// <param name="usualBytes">The image's length, unless the tree has so many small files that it needs more.</param>
    /// <param name="usualBytesPerInode">Likewise.</param>
    private static async Task<string> MakeAsync(string tree, string image, long usualBytes, int usualBytesPerInode, Random random, CancellationToken cancellationToken)
    {
        var entries = new DirectoryInfo(tree).EnumerateFileSystemInfos("*", SearchOption.AllDirectories).ToArray();
        var inodes = Math.Max(usualBytes / usualBytesPerInode, entries.Length * 5L / 4 + 256);
        var blocks = entries.Sum(static entry => entry is FileInfo file ? (file.Length + BlockBytes - 1) / BlockBytes : 1);
        var bytes = Math.Max(usualBytes, blocks * BlockBytes * 3 / 2 + inodes * InodeBytes + SpareBytes);
        await using (var file = new FileStream(image, FileMode.CreateNew, FileAccess.Write))
        {
            file.SetLength(bytes / BlockBytes * BlockBytes);
        }
        await Proc.CheckAsync(
            "mke2fs", ["-q", "-F", "-t", "ext4", "-b", $"{BlockBytes}", "-I", $"{InodeBytes}", "-N", $"{inodes}", "-U", NewUuid(random), "-E", $"hash_seed={NewUuid(random)}", "-d", tree, image], Limit, cancellationToken);
        return image;
    }

    /// <summary>Copies the image, writes some files anew with a few other bytes, and adds logs.</summary>
    private static async Task<string> ChangeAsync(
        string image, string path, List<string> files, long logBytes, string folder, Random random, CancellationToken cancellationToken)
    {
        await Proc.CheckAsync("cp", ["--sparse=always", image, path], Limit, cancellationToken);
        var fresh = Directory.CreateDirectory(Path.Combine(folder, $"fresh-{Path.GetFileNameWithoutExtension(path)}")).FullName;
        var commands = new StringBuilder();
        for (var i = 0; i < files.Count; i++)
        {
            var head = new byte[64 + random.Next(400)];
            random.NextBytes(head);
            var source = Path.Combine(fresh, $"{i}");
            await File.WriteAllBytesAsync(source, [.. head, .. await File.ReadAllBytesAsync(Path.Combine(folder, "tree", files[i]), cancellationToken)], cancellationToken);
            commands.Append($"rm /{files[i]}\nwrite {source} /{files[i]}\n");
        }
        for (var i = 0; i < 4; i++)
        {
            var source = Path.Combine(fresh, $"log-{i}");
            await File.WriteAllTextAsync(source, WriteLog(logBytes / 4, random), cancellationToken);
            commands.Append($"write {source} /{Path.GetFileNameWithoutExtension(path)}-{i}.log\n");
        }
        var script = Path.Combine(fresh, "commands");
        await File.WriteAllTextAsync(script, commands.ToString(), cancellationToken);
        await Proc.CheckAsync("debugfs", ["-w", "-f", script, path], Limit, cancellationToken);
        Directory.Delete(fresh, recursive: true);
        return path;
    }

    private static string WriteLog(long bytes, Random random)
    {
        var text = new StringBuilder();
        for (var second = random.Next(1 << 20); text.Length < bytes; second += random.Next(4))
        {
            text.Append($"{second} host unit-{random.Next(40)}[{random.Next(30_000)}]: request {random.NextInt64():x} answered after {random.Next(2000)} ms\n");
        }
        return text.ToString();
    }

    private static List<string> Sample(List<string> files, double share, Random random)
    {
        var order = files.ToArray();
        random.Shuffle(order);
        return [.. order.Take(1 + (int)(order.Length * share))];
    }

    private static string NewUuid(Random random)
    {
        var bytes = new byte[16];
        random.NextBytes(bytes);
        return new Guid(bytes).ToString();
    }
}
