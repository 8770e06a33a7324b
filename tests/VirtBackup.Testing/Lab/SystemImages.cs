using System.Text;

namespace VirtBackup.Testing.Lab;

/// <summary>A file that is to be written into an image.</summary>
/// <param name="Name">Its path there, without a leading slash.</param>
/// <param name="Source">Where its content is.</param>
public sealed record ImageFile(string Name, string Source);

/// <summary>Disk images made of this system's own files: what machines really hold, and nothing that has to be downloaded.</summary>
public static class SystemImages
{
    private const long FileBytesMax = 32L << 20;
    private const int BlockBytes = 4096;
    private const int InodeBytes = 256;
    private const long LengthUnit = 1 << 20;

    /// <summary>For the journal, the groups' tables and the days that follow.</summary>
    private const long SpareBytes = 24L << 20;
    private const int FreshHeadBytesMin = 64, FreshHeadBytesMore = 400;

    private static readonly TimeSpan Limit = TimeSpan.FromMinutes(10);

    /// <summary>Copies folders of this system into a tree until there is enough.</summary>
    /// <param name="random">Decides which come first.</param>
    /// <param name="without">Paths in the tree that are left out.</param>
    /// <param name="fileBytesMax">Longer files are left out.</param>
    /// <returns>The files' paths in the tree.</returns>
    public static async Task<List<string>> InstallAsync(string tree, Random random, long contentBytes, CancellationToken cancellationToken, IEnumerable<string>? without = null, long fileBytesMax = FileBytesMax)
    {
        ArgumentNullException.ThrowIfNull(random);
        var folders = new[] { "/usr/bin", "/usr/lib", "/usr/share", "/usr/include" }.Where(Directory.Exists)
            .SelectMany(static root => Directory.EnumerateDirectories(root).Append(root))
            .Order(StringComparer.Ordinal).ToArray();
        random.Shuffle(folders);
        var files = new List<string>();
        var seen = new HashSet<string>(without ?? [], StringComparer.Ordinal);
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
                if (file.Length == 0 || file.Length > fileBytesMax || !name.All(static letter => char.IsAsciiLetterOrDigit(letter) || "/._-+".Contains(letter, StringComparison.Ordinal)) || !seen.Add(name))
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

    /// <summary>An ext4 image of a tree. Its length is a multiple of 1 MiB.</summary>
    /// <param name="usualBytes">The image's length, unless the tree has so many small files that it needs more.</param>
    /// <param name="usualBytesPerInode">Likewise.</param>
    public static async Task<string> MakeAsync(string tree, string image, long usualBytes, int usualBytesPerInode, Random random, CancellationToken cancellationToken)
    {
        var entries = new DirectoryInfo(tree).EnumerateFileSystemInfos("*", SearchOption.AllDirectories).ToArray();
        var inodes = Math.Max(usualBytes / usualBytesPerInode, entries.Length * 5L / 4 + 256);
        var blocks = entries.Sum(static entry => entry is FileInfo file ? (file.Length + BlockBytes - 1) / BlockBytes : 1);
        var bytes = Math.Max(usualBytes, blocks * BlockBytes * 3 / 2 + inodes * InodeBytes + SpareBytes);
        await using (var file = new FileStream(image, FileMode.CreateNew, FileAccess.Write))
        {
            file.SetLength((bytes + LengthUnit - 1) / LengthUnit * LengthUnit);
        }
        await Proc.CheckAsync(
            "mke2fs", ["-q", "-F", "-t", "ext4", "-b", $"{BlockBytes}", "-I", $"{InodeBytes}", "-N", $"{inodes}", "-U", NewUuid(random), "-E", $"hash_seed={NewUuid(random)}", "-d", tree, image], Limit, cancellationToken);
        return image;
    }

    /// <summary>Copies an image, writes some of its files anew with a few other bytes at their beginning, and adds others.</summary>
    /// <param name="tree">Where the content of <paramref name="rewritten"/> is.</param>
    public static async Task<string> ChangeAsync(
        string image, string path, string tree, IReadOnlyList<string> rewritten, Func<string, Task<IReadOnlyList<ImageFile>>> add, Random random, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(rewritten);
        ArgumentNullException.ThrowIfNull(add);
        ArgumentNullException.ThrowIfNull(random);
        await Proc.CheckAsync("cp", ["--sparse=always", image, path], Limit, cancellationToken);
        var fresh = Directory.CreateDirectory($"{path}.fresh").FullName;
        var commands = new StringBuilder();
        for (var i = 0; i < rewritten.Count; i++)
        {
            var head = new byte[FreshHeadBytesMin + random.Next(FreshHeadBytesMore)];
            random.NextBytes(head);
            var source = Path.Combine(fresh, $"{i}");
            await File.WriteAllBytesAsync(source, [.. head, .. await File.ReadAllBytesAsync(Path.Combine(tree, rewritten[i]), cancellationToken)], cancellationToken);
            commands.Append($"rm /{rewritten[i]}\nwrite {source} /{rewritten[i]}\n");
        }
        foreach (var file in await add(fresh))
        {
            commands.Append($"write {file.Source} /{file.Name}\n");
        }
        var script = Path.Combine(fresh, "commands");
        await File.WriteAllTextAsync(script, commands.ToString(), cancellationToken);
        await Proc.CheckAsync("debugfs", ["-w", "-f", script, path], Limit, cancellationToken);
        Directory.Delete(fresh, recursive: true);
        return path;
    }

    /// <summary>Some lines as a busy machine logs them.</summary>
    /// <param name="bytes">At least so many.</param>
    public static string WriteLog(long bytes, Random random)
    {
        ArgumentNullException.ThrowIfNull(random);
        var text = new StringBuilder();
        for (var second = random.Next(1 << 20); text.Length < bytes; second += random.Next(4))
        {
            text.Append($"{second} host unit-{random.Next(40)}[{random.Next(30_000)}]: request {random.NextInt64():x} answered after {random.Next(2000)} ms\n");
        }
        return text.ToString();
    }

    /// <summary>A share of them, at least one.</summary>
    public static List<string> Sample(IReadOnlyList<string> files, double share, Random random)
    {
        ArgumentNullException.ThrowIfNull(random);
        var order = files.ToArray();
        random.Shuffle(order);
        return [.. order.Take(1 + (int)(order.Length * share))];
    }

    private static IEnumerable<FileInfo> FilesOf(string source)
    {
        var isRoot = source.Count(static letter => letter == '/') == 2;
        var all = new EnumerationOptions { RecurseSubdirectories = !isRoot, AttributesToSkip = FileAttributes.ReparsePoint, IgnoreInaccessible = true };
        return new DirectoryInfo(source).EnumerateFiles("*", all).OrderBy(static file => file.FullName, StringComparer.Ordinal);
    }

    private static string NewUuid(Random random)
    {
        var bytes = new byte[16];
        random.NextBytes(bytes);
        return new Guid(bytes).ToString();
    }
}
