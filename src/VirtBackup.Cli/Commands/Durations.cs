using System.CommandLine.Parsing;
using System.Globalization;

namespace VirtBackup.Cli.Commands;

/// <summary>Spans of time on the command line: <c>30m</c>, <c>12h</c>, <c>7d</c>, <c>8w</c>.</summary>
internal static class Durations
{
    private const double DaysMax = 36_500;

    public static TimeSpan? Parse(ArgumentResult result)
    {
        var text = result.Tokens is [{ Value: var value }] ? value : "";
        if (TryParse(text, out var span))
        {
            return span;
        }
        result.AddError($"'{text}' is not a span of time: write it like 30m, 12h, 7d or 8w.");
        return null;
    }

    public static bool TryParse(string text, out TimeSpan span)
    {
        span = default;
        var unit = text is [.., 'm'] ? TimeSpan.FromMinutes(1) : text is [.., 'h'] ? TimeSpan.FromHours(1) : text is [.., 'd'] ? TimeSpan.FromDays(1)
            : text is [.., 'w'] ? TimeSpan.FromDays(7) : TimeSpan.Zero;
        if (unit == TimeSpan.Zero || !uint.TryParse(text[..^1], NumberStyles.None, CultureInfo.InvariantCulture, out var count) || count == 0 || unit.TotalDays * count > DaysMax)
        {
            return false;
        }
        span = unit * count;
        return true;
    }
}
