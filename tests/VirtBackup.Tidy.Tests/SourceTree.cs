using System.Diagnostics;
using System.Text;

namespace VirtBackup.Tidy.Tests;

/// <summary>The files of a repository, real or made up. Paths are relative to the root and use '/'.</summary>
internal sealed class SourceTree
{
    private static readonly string[] IgnoredFolders = [".git", "bin", "obj", "artifacts", ".lab", ".vs", ".idea"];

    private readonly SortedDictionary<string, SourceFile> _files = new(StringComparer.Ordinal);

    public SourceTree(IEnumerable<SourceFile> files)
    {
        foreach (var file in files)
        {
            _files.Add(file.Path, file);
        }
    }

    public IReadOnlyCollection<SourceFile> Files => _files.Values;

    /// <summary>Project files, by name.</summary>
    public IEnumerable<SourceFile> Projects => Files.Where(file => file.Path.EndsWith(".csproj", StringComparison.Ordinal));

    /// <summary>C# files under src.</summary>
    public IEnumerable<SourceFile> Sources => Files.Where(file => file.IsCSharp && file.Path.StartsWith("src/", StringComparison.Ordinal));

    public SourceFile? Find(string path) => _files.GetValueOrDefault(path);

    /// <summary>True for a file and for a folder that holds one.</summary>
    public bool Exists(string path) =>
        path.Length == 0 || _files.ContainsKey(path) || _files.Keys.Any(file => file.StartsWith(path + "/", StringComparison.Ordinal));

    /// <summary>A tree with a file replaced, added, or (null) removed.</summary>
    public SourceTree With(string path, string? content)
    {
        var others = Files.Where(file => file.Path != path);
        return new SourceTree(content is null ? others : others.Append(new SourceFile(path, content)));
    }

    /// <summary>The repository this test was built in: what git tracks or would track, or all files if it is no checkout.</summary>
    public static SourceTree Load()
    {
        var root = new DirectoryInfo(AppContext.BaseDirectory);
        while (root is not null && !File.Exists(Path.Combine(root.FullName, "VirtBackup.sln")))
        {
            root = root.Parent;
        }
        var folder = root?.FullName ?? throw new DirectoryNotFoundException($"No folder above {AppContext.BaseDirectory} holds VirtBackup.sln.");
        var files = new List<SourceFile>();
        foreach (var path in ListWithGit(folder) ?? ListAll(folder))
        {
            var full = Path.Combine(folder, path);
            if (new FileInfo(full) is { Exists: true, LinkTarget: null })
            {
                var bytes = File.ReadAllBytes(full);
                files.Add(new SourceFile(path, bytes.AsSpan(0, Math.Min(bytes.Length, 8192)).Contains((byte)0) ? "" : Encoding.UTF8.GetString(bytes)));
            }
        }
        return new SourceTree(files);
    }

    private static IEnumerable<string> ListAll(string folder) =>
        from path in Directory.EnumerateFiles(folder, "*", SearchOption.AllDirectories)
        let relative = Path.GetRelativePath(folder, path).Replace(Path.DirectorySeparatorChar, '/')
        where !relative.Split('/')[..^1].Any(part => IgnoredFolders.Contains(part, StringComparer.Ordinal))
        select relative;

    private static string[]? ListWithGit(string folder)
    {
        if (!Path.Exists(Path.Combine(folder, ".git")))
        {
            return null;
        }
        var start = new ProcessStartInfo("git", ["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        {
            WorkingDirectory = folder,
            RedirectStandardOutput = true,
        };
        try
        {
            using var git = Process.Start(start)!;
            var output = git.StandardOutput.ReadToEnd();
            git.WaitForExit();
            return git.ExitCode == 0 ? [.. output.Split('\0', StringSplitOptions.RemoveEmptyEntries).Distinct(StringComparer.Ordinal)] : null;
        }
        catch (System.ComponentModel.Win32Exception)
        {
            return null;
        }
    }
}

/// <summary>A text file; a binary one has no text.</summary>
internal sealed class SourceFile(string path, string text)
{
    private string? _code;

    public string Path => path;

    public string Text => text;

    public string Name => path[(path.LastIndexOf('/') + 1)..];

    public bool IsCSharp => path.EndsWith(".cs", StringComparison.Ordinal);

    /// <summary>C# text with comments and literals blanked out, at the same offsets.</summary>
    public string Code => _code ??= CSharpCode.Strip(text);

    /// <summary>The folder below src or tests: the project's name.</summary>
    public string Project => path.Split('/') is [_, var project, _, ..] ? project : "";

    public int LineCount => text.AsSpan().Count('\n') + (text.Length > 0 && text[^1] != '\n' ? 1 : 0);

    /// <summary>The line, from 1, of an offset.</summary>
    public int LineAt(int offset) => text.AsSpan(0, offset).Count('\n') + 1;

    public Violation At(int offset, string message) => new(path, LineAt(offset), message);
}

/// <summary>One broken rule at one place.</summary>
internal sealed record Violation(string Path, int Line, string Message)
{
    public string Place => $"{Path}:{Line}";

    public override string ToString() => $"{Place}: {Message}";
}

/// <summary>A rule of the repository.</summary>
internal sealed record Rule(string Name, Func<SourceTree, IEnumerable<Violation>> Find);
