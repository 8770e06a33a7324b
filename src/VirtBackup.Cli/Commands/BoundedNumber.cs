using System.CommandLine.Parsing;
using System.Globalization;

namespace VirtBackup.Cli.Commands;

/// <summary>Whole numbers on the command line, 1 or more.</summary>
internal static class BoundedNumber
{
    /// <param name="option">Its name, for people.</param>
    /// <param name="max">The largest that is allowed; null: any that fits.</param>
    /// <param name="of">What is counted, for people.</param>
    public static int Parse(ArgumentResult result, string option, int? max = null, string of = "")
    {
        if (result.Tokens is [{ Value: var text }] && int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var number) && number >= 1 && !(number > max))
        {
            return number;
        }
        result.AddError($"{option} must be a number{(of.Length > 0 ? $" of {of}" : "")}{(max is { } most ? $" between 1 and {most}" : ", 1 or more")}.");
        return 0;
    }
}
