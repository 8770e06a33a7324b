using System.Text.RegularExpressions;
using System.Xml;
using System.Xml.Linq;

namespace VirtBackup.Tidy.Tests;

/// <summary>Rules about project files and the solution.</summary>
internal static partial class ProjectRules
{
    public static readonly IReadOnlyList<Rule> All =
    [
        new("References stay on their floor", FindReferences),
        new("Projects form no circle", FindCircles),
        new("Versions are central", FindVersions),
        new("The solution lists every project", FindSolutionGaps),
        new("Every folder with code is a project", FindOrphanFolders),
    ];

    private static IEnumerable<Violation> FindReferences(SourceTree tree)
    {
        var graph = GraphOf(tree);
        foreach (var file in tree.Projects)
        {
            var name = NameOf(file.Path);
            var inSource = file.Path.StartsWith("src/", StringComparison.Ordinal);
            if (inSource && !Floors.Product.ContainsKey(Floors.ShortName(name)))
            {
                yield return new Violation(file.Path, 1, $"{name} has no floor; give it one in {nameof(Floors)}.cs.");
                continue;
            }
            foreach (var reference in Items(file, "ProjectReference"))
            {
                var target = NameOf(Include(reference));
                if (inSource ? !Floors.Product[Floors.ShortName(name)].Projects.Contains(Floors.ShortName(target)) : target.EndsWith(".Tests", StringComparison.Ordinal))
                {
                    yield return At(file, reference, $"{name} may not reference the project {target}.");
                }
            }
            foreach (var reference in Items(file, "PackageReference").Concat(Items(file, "FrameworkReference")))
            {
                if (!AllowsPackage(inSource ? name : null, Include(reference)))
                {
                    yield return At(file, reference, $"{name} may not reference the package {Include(reference)}.");
                }
            }
            foreach (var reference in Items(file, "Reference"))
            {
                yield return At(file, reference, $"{name} references the file {Include(reference)}; reference a project or a package.");
            }
            foreach (var banned in Floors.Unreachable.GetValueOrDefault(name) ?? [])
            {
                if (PathTo(graph, name, banned) is { } path)
                {
                    yield return new Violation(file.Path, 1, $"{name} must never reach {banned}, but does: {string.Join(" → ", path)}.");
                }
            }
        }
        foreach (var file in tree.Files.Where(file => file.Path.EndsWith(".props", StringComparison.Ordinal) || file.Path.EndsWith(".targets", StringComparison.Ordinal)))
        {
            var forTests = file.Path.StartsWith("tests/", StringComparison.Ordinal);
            foreach (var reference in Items(file, "PackageReference").Where(item => !forTests || !AllowsPackage(null, Include(item))))
            {
                yield return At(file, reference, $"Package {Include(reference)} would be given to every project; reference it where it is used.");
            }
        }
    }

    private static bool AllowsPackage(string? product, string package) => product is null
        ? Floors.TestPackages.Contains(package) || Floors.Product.Values.Any(floor => floor.Packages.Contains(package))
        : Floors.Product[Floors.ShortName(product)].Packages.Contains(package);

    private static IEnumerable<Violation> FindCircles(SourceTree tree)
    {
        var graph = GraphOf(tree);
        foreach (var file in tree.Projects)
        {
            var name = NameOf(file.Path);
            if (graph[name].Select(next => next == name ? [name] : PathTo(graph, next, name)).FirstOrDefault(path => path is not null) is { } circle)
            {
                yield return new Violation(file.Path, 1, $"The references form a circle: {string.Join(" → ", circle.Prepend(name))}.");
            }
        }
    }

    private static IEnumerable<Violation> FindVersions(SourceTree tree)
    {
        foreach (var file in tree.Projects)
        {
            foreach (var element in Load(file).Descendants())
            {
                var own = element.Name.LocalName is "PackageReference" && (element.Attribute("Version") ?? element.Attribute("VersionOverride")) is not null;
                var child = element.Name.LocalName is "Version" or "VersionOverride" && element.Parent?.Name.LocalName == "PackageReference";
                if (own || child || element.Name.LocalName == "PackageVersion")
                {
                    yield return At(file, element, "A package version belongs in Directory.Packages.props.");
                }
            }
        }
    }

    private static IEnumerable<Violation> FindSolutionGaps(SourceTree tree)
    {
        if (tree.Find("VirtBackup.sln") is not { } solution)
        {
            yield return new Violation("VirtBackup.sln", 1, "There is no solution.");
            yield break;
        }
        var listed = new HashSet<string>(StringComparer.Ordinal);
        foreach (Match entry in SolutionEntry().Matches(solution.Text))
        {
            var path = entry.Groups[1].Value.Replace('\\', '/');
            if (!listed.Add(path))
            {
                yield return solution.At(entry.Index, $"{path} is listed twice.");
            }
            if (tree.Find(path) is null)
            {
                yield return solution.At(entry.Index, $"{path} does not exist.");
            }
        }
        foreach (var file in tree.Projects.Where(file => !listed.Contains(file.Path)))
        {
            yield return new Violation(file.Path, 1, "The project is missing in VirtBackup.sln.");
        }
    }

    private static IEnumerable<Violation> FindOrphanFolders(SourceTree tree)
    {
        foreach (var file in tree.Projects.Where(file => file.Path.Split('/') is not ([_, var folder, var name]) || name != folder + ".csproj"))
        {
            yield return new Violation(file.Path, 1, "A project lies in src/NAME or tests/NAME and is called NAME.csproj.");
        }
        foreach (var folder in tree.Files.Where(file => file.IsCSharp && file.Project.Length > 0).GroupBy(file => string.Join('/', file.Path.Split('/')[..2])))
        {
            if (tree.Find($"{folder.Key}/{folder.First().Project}.csproj") is null)
            {
                yield return new Violation(folder.First().Path, 1, $"{folder.Key} holds C# files but no project {folder.First().Project}.csproj, so nothing builds or runs them.");
            }
        }
    }

    private static Dictionary<string, string[]> GraphOf(SourceTree tree) => tree.Projects.ToDictionary(
        file => NameOf(file.Path), file => Items(file, "ProjectReference").Select(item => NameOf(Include(item))).ToArray(), StringComparer.Ordinal);

    /// <summary>The way from one project to another, both named, or null.</summary>
    private static IReadOnlyList<string>? PathTo(Dictionary<string, string[]> graph, string from, string to)
    {
        var seen = new HashSet<string>([from], StringComparer.Ordinal);
        var open = new Queue<string[]>([[from]]);
        while (open.TryDequeue(out var path))
        {
            foreach (var next in graph.GetValueOrDefault(path[^1]) ?? [])
            {
                if (next == to)
                {
                    return [.. path, next];
                }
                if (seen.Add(next))
                {
                    open.Enqueue([.. path, next]);
                }
            }
        }
        return null;
    }

    private static IEnumerable<XElement> Items(SourceFile file, string name) =>
        Load(file).Descendants().Where(element => element.Name.LocalName == name && element.Parent?.Name.LocalName == "ItemGroup");

    private static string Include(XElement item) => (string?)item.Attribute("Include") ?? (string?)item.Attribute("Update") ?? "";

    private static XDocument Load(SourceFile file) => XDocument.Parse(file.Text.TrimStart('\uFEFF'), LoadOptions.SetLineInfo);

    private static string NameOf(string path) => Path.GetFileNameWithoutExtension(path.Replace('\\', '/'));

    private static Violation At(SourceFile file, XElement element, string message) => new(file.Path, ((IXmlLineInfo)element).LineNumber, message);

    [GeneratedRegex("""^Project\("[^"]*"\) = "[^"]*", "([^"]*\.csproj)",""", RegexOptions.Multiline)]
    private static partial Regex SolutionEntry();
}
