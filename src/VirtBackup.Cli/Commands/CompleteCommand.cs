using System.CommandLine;

namespace VirtBackup.Cli.Commands;

/// <summary>What the shells' completion scripts call: prints what may stand at a place of a command line, one a line.</summary>
internal sealed class CompleteCommand : ProgramCommand
{
    private readonly Argument<int> _position = new("position") { Description = "Characters in front of the cursor" };
    private readonly Argument<string> _line = new("line") { Description = "The command line, which begins with the program's name" };

    public CompleteCommand(CliContext context)
        : base("complete", "Complete a command line", context)
    {
        Hidden = true;
        Add(_position);
        Add(_line);
    }

    protected override Task<int> RunAsync(ParseResult parse, CancellationToken cancellationToken)
    {
        var line = parse.GetRequiredValue(_line);
        var position = Math.Clamp(parse.GetValue(_position), 0, line.Length);
        var before = line[..position];
        var word = before[(before.LastIndexOf(' ') + 1)..];
        foreach (var item in CommandTree.Create(Context).Parse(before).GetCompletions(position))
        {
            var text = item.InsertText ?? item.Label;
            if (text.StartsWith(word, StringComparison.Ordinal) && IsWorthIt(text, word))
            {
                Context.Terminal.Writer.WriteLine(text);
            }
        }
        return Task.FromResult(ExitCode.Succeeded);
    }

    // Options once a dash is there, by their long names: else they bury the names that somebody looks for.
    private static bool IsWorthIt(string text, string word) =>
        !text.Any(static c => char.IsControl(c) || c == ' ') && (text[0] == '-' ? word.StartsWith('-') && text.StartsWith("--", StringComparison.Ordinal) : text[0] != '/');
}
