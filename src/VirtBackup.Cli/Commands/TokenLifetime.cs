using System.CommandLine;
using System.CommandLine.Parsing;
using System.Globalization;

namespace VirtBackup.Cli.Commands;

/// <summary>How long a join token is good, in minutes.</summary>
internal static class TokenLifetime
{
    private const uint MinutesMax = 10_080;

    public static Option<uint> Option() => new("--lifetime")
    {
        Description = "How long the token is good: 30m, 12h or 7d; at most 7d", HelpName = "TIME", CustomParser = Parse, DefaultValueFactory = static _ => 60,
    };

    private static uint Parse(ArgumentResult result)
    {
        var text = result.Tokens is [{ Value: var value }] ? value : "";
        var factor = text is [.., 'm'] ? 1u : text is [.., 'h'] ? 60u : text is [.., 'd'] ? 1440u : 0u;
        if (factor > 0 && uint.TryParse(text[..^1], NumberStyles.None, CultureInfo.InvariantCulture, out var count)
            && count > 0 && count <= MinutesMax / factor)
        {
            return count * factor;
        }
        result.AddError($"'{text}' is not a lifetime: write it like 30m, 12h or 7d, with at most 7d.");
        return 0;
    }
}
