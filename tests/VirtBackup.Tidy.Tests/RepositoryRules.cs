using System.Text.RegularExpressions;

namespace VirtBackup.Tidy.Tests;

/// <summary>Rules about files, their names, their length, their words and their links.</summary>
internal static partial class RepositoryRules
{
    private const int LinesMax = 400;

    private static readonly string[] CodeEndings = [".cs", ".sh", ".proto", ".py", ".js", ".css", ".html", ".razor"];

    private static readonly string[] VagueNames = ["utils", "helper", "manager"];

    private static readonly string[] TopLevel = ["protos", "src", "tests", "deploy", "VirtBackup.sln", "README.md", "LICENSE", "global.json"];

    /// <summary>Words of a workplace, not of the product; in parts, so that this file does not hold them.</summary>
    private static readonly IReadOnlyList<Regex> ForeignWords =
    [
        new(@"/wo" + @"rk/", RegexOptions.CultureInvariant),
        new(@"cla" + @"ude", RegexOptions.IgnoreCase | RegexOptions.CultureInvariant),
        new(@"\bL" + @"LMs?\b", RegexOptions.CultureInvariant),
        new(@"anth" + @"ropic", RegexOptions.IgnoreCase | RegexOptions.CultureInvariant),
        new(@"sub" + @"-?agent", RegexOptions.IgnoreCase | RegexOptions.CultureInvariant),
    ];

    public static readonly IReadOnlyList<Rule> All =
    [
        new("Files are short", FindLongFiles),
        new("Names say what a thing is", FindVagueNames),
        new("The top level is closed", FindTopLevelStrangers),
        new("The project speaks of itself", FindForeignWords),
        new("Links resolve", FindBrokenLinks),
    ];

    private static IEnumerable<Violation> FindLongFiles(SourceTree tree) =>
        from file in tree.Files
        where file.LineCount > LinesMax && CodeEndings.Contains(Path.GetExtension(file.Path))
        select new Violation(file.Path, LinesMax + 1, $"{file.LineCount} lines; at most {LinesMax}, so split it by reason to change.");

    private static IEnumerable<Violation> FindVagueNames(SourceTree tree) =>
        from file in tree.Files
        from word in VagueNames
        where file.Path.Contains(word, StringComparison.OrdinalIgnoreCase)
        select new Violation(file.Path, 1, $"A name with '{word}' says nothing; name the one thing it does.");

    private static IEnumerable<Violation> FindTopLevelStrangers(SourceTree tree) =>
        from entry in tree.Files.GroupBy(file => file.Path.Split('/')[0])
        where !TopLevel.Contains(entry.Key) && !entry.Key.StartsWith('.') && !SharedProperties().IsMatch(entry.Key)
        select new Violation(entry.First().Path, 1, $"'{entry.Key}' does not belong at the top level; documents live beside what they govern.");

    private static IEnumerable<Violation> FindForeignWords(SourceTree tree) =>
        from file in tree.Files
        where file.Name != "packages.lock.json"
        from word in ForeignWords
        from Match match in word.Matches(file.Text)
        select file.At(match.Index, $"'{match.Value}' is not a word of this project.");

    private static IEnumerable<Violation> FindBrokenLinks(SourceTree tree)
    {
        foreach (var file in tree.Files.Where(file => file.Path.EndsWith(".md", StringComparison.Ordinal)))
        {
            var prose = CodeInProse().Replace(file.Text, match => Regex.Replace(match.Value, "[^\n]", " "));
            foreach (Match match in Link().Matches(prose))
            {
                var target = match.Groups["target"].Value.Trim('<', '>');
                if (target.Length == 0 || target[0] == '#' || WebAddress().IsMatch(target))
                {
                    continue;
                }
                var path = Uri.UnescapeDataString(target.Split('#', '?')[0]);
                if (Resolve(file.Path, path) is not { } resolved || !tree.Exists(resolved))
                {
                    yield return file.At(match.Groups["target"].Index, $"The link to '{target}' leads nowhere.");
                }
            }
        }
    }

    /// <summary>A link's path from the root; null when it leaves the repository.</summary>
    private static string? Resolve(string document, string link)
    {
        var parts = link.StartsWith('/') ? [] : document.Split('/')[..^1].ToList();
        foreach (var part in link.Split('/'))
        {
            if (part == "..")
            {
                if (parts.Count == 0)
                {
                    return null;
                }
                parts.RemoveAt(parts.Count - 1);
            }
            else if (part is not ("" or "."))
            {
                parts.Add(part);
            }
        }
        return string.Join('/', parts);
    }

    [GeneratedRegex(@"^Directory\.\w+\.(props|targets)$")]
    private static partial Regex SharedProperties();

    [GeneratedRegex(@"^[a-zA-Z][a-zA-Z0-9+.-]*:")]
    private static partial Regex WebAddress();

    [GeneratedRegex(@"^(?<fence>```+|~~~+).*?^\k<fence>|(?<ticks>`+)[^\n]*?\k<ticks>", RegexOptions.Multiline | RegexOptions.Singleline)]
    private static partial Regex CodeInProse();

    [GeneratedRegex("""\]\(\s*(?<target><[^>\n]*>|[^)\s]*)(\s+"[^"]*")?\s*\)|^\s{0,3}\[[^\]\n]+\]:\s*(?<target>\S+)""", RegexOptions.Multiline)]
    private static partial Regex Link();
}
