using System.CommandLine;
using System.CommandLine.Parsing;
using System.Globalization;

namespace VirtBackup.Cli.Commands.Groups;

/// <summary>The option that says how far apart the cuts of a consistent group may lie.</summary>
internal static class SkewBound
{
    private const uint MillisecondsMax = 60_000;

    public static Option<uint> Option(string otherwise) => new("--skew-bound")
    {
        Description = $"Milliseconds that the cuts of the machines may lie apart; above it a point is not called consistent (1 to 60000) [default: {otherwise}]",
        HelpName = "MS", CustomParser = Parse,
    };

    private static uint Parse(ArgumentResult result)
    {
        if (result.Tokens is [{ Value: var text }] && uint.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var bound) && bound is >= 1 and <= MillisecondsMax)
        {
            return bound;
        }
        result.AddError($"--skew-bound must be a number of milliseconds between 1 and {MillisecondsMax}.");
        return 0;
    }
}
