using System.CommandLine;
using VirtBackup.Cli.Output;

namespace VirtBackup.Cli.Commands;

/// <summary>Options that every verb has.</summary>
internal static class GlobalOptions
{
    public static Option<OutputFormat> Output { get; } = CreateOutput();

    public static Option<string?> Credentials { get; } = new("--credentials")
    {
        Description = "Folder of your operator credentials [default: $VIRTBACKUP_CREDENTIALS or ~/.config/virtbackup]",
        HelpName = "DIR",
        Recursive = true,
    };

    private static Option<OutputFormat> CreateOutput()
    {
        var option = new Option<OutputFormat>("--output", "-o")
        {
            Description = "How to print the result: table, for people, or json, for programs",
            HelpName = "table|json",
            Recursive = true,
            CustomParser = static result => result.Tokens is [{ Value: var value }]
                ? value switch
                {
                    "table" => OutputFormat.Table,
                    "json" => OutputFormat.Json,
                    _ => Refuse(result, value),
                }
                : OutputFormat.Table,
        };
        // In place of the names of the enumeration.
        option.CompletionSources.Clear();
        option.CompletionSources.Add("table", "json");
        return option;
    }

    private static OutputFormat Refuse(System.CommandLine.Parsing.ArgumentResult result, string value)
    {
        result.AddError($"'{value}' is not an output format: use table or json.");
        return OutputFormat.Table;
    }
}
