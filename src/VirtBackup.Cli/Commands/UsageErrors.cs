using System.CommandLine;
using System.CommandLine.Parsing;

namespace VirtBackup.Cli.Commands;

/// <summary>What is wrong with a command line, in words that name the word that is wrong.</summary>
internal static class UsageErrors
{
    /// <summary>Letters that may differ between a word and the one that was meant.</summary>
    private const int DistanceMax = 2;

    /// <returns>The exit code.</returns>
    public static int Report(ParseResult parse, FailureReport report, TextWriter standardError)
    {
        var command = parse.CommandResult.Command;
        var next = string.Join(' ', NamesOf(parse.CommandResult)) + " --help";
        if (command.Subcommands.Count == 0)
        {
            return report.Write(ExitCode.Usage, "usage", string.Join(' ', parse.Errors.Select(static error => Sentence(error.Message)).Distinct()), next);
        }
        if (parse.UnmatchedTokens.Count > 0)
        {
            return report.Write(ExitCode.Usage, "usage", UnknownVerb(command, parse.UnmatchedTokens[0]), next);
        }
        // Nothing was asked for yet: what there is to ask for.
        command.Parse("--help").Invoke(new InvocationConfiguration { Output = standardError });
        return report.Write(ExitCode.Usage, "usage", $"'{string.Join(' ', NamesOf(parse.CommandResult))}' needs a command.", next);
    }

    private static string UnknownVerb(Command command, string word)
    {
        var known = command.Subcommands.Where(static verb => !verb.Hidden).Select(static verb => verb.Name).ToList();
        var near = known.Select(name => (Name: name, Distance: DistanceOf(word, name))).MinBy(static found => found.Distance);
        return near.Distance <= DistanceMax
            ? $"There is no command '{word}'. Did you mean '{near.Name}'?"
            : $"There is no command '{word}'. There are: {string.Join(", ", known)}.";
    }

    private static Stack<string> NamesOf(CommandResult result)
    {
        var names = new Stack<string>();
        for (SymbolResult? at = result; at is CommandResult { Command: var command }; at = at.Parent)
        {
            names.Push(command is RootCommand ? "virtbackup" : command.Name);
        }
        return names;
    }

    private static string Sentence(string message) => message is [.., '.' or '?' or '!'] ? message : message + ".";

    /// <summary>Letters to add, drop or replace (Levenshtein).</summary>
    private static int DistanceOf(string left, string right)
    {
        var row = Enumerable.Range(0, right.Length + 1).ToArray();
        for (var i = 1; i <= left.Length; i++)
        {
            var diagonal = row[0];
            row[0] = i;
            for (var j = 1; j <= right.Length; j++)
            {
                (diagonal, row[j]) = (row[j], Math.Min(Math.Min(row[j], row[j - 1]) + 1, diagonal + (left[i - 1] == right[j - 1] ? 0 : 1)));
            }
        }
        return row[right.Length];
    }
}
