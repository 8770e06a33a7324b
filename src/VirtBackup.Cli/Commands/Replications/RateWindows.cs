using System.CommandLine.Parsing;
using System.Globalization;
using System.Text;
using VirtBackup.Cli.Output;
using VirtBackup.Cli.Views;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Commands.Replications;

/// <summary>Limits by time of day on the command line: <c>08:00-18:00=20MiB</c>, <c>mon-fri@22:00-06:00=none</c>, <c>sat,sun@00:00-24:00=none</c>.</summary>
internal static class RateWindows
{
    public const string Form = "[DAYS@]HH:MM-HH:MM=BYTES";

    private static readonly string[] DayNames = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

    public static RateWindow[] Parse(ArgumentResult result)
    {
        var windows = new List<RateWindow>();
        foreach (var token in result.Tokens)
        {
            if (!TryParse(token.Value, out var window))
            {
                result.AddError($"'{token.Value}' is not a limit by time of day: write it like 08:00-18:00=20MiB or sat,sun@00:00-24:00=none, in UTC.");
                return [];
            }
            windows.Add(window);
        }
        return [.. windows];
    }

    public static bool TryParse(string text, out RateWindow window)
    {
        window = new RateWindow();
        var equals = text.IndexOf('=', StringComparison.Ordinal);
        if (equals < 0 || !TryParseRate(text[(equals + 1)..], out var rate))
        {
            return false;
        }
        var at = text.IndexOf('@', StringComparison.Ordinal);
        var hours = text[(at + 1)..equals].Split('-');
        if (at >= equals || hours.Length != 2 || !TryParseMinute(hours[0], out var start) || !TryParseMinute(hours[1], out var end) || start == 1440 || end == 0 || start == end)
        {
            return false;
        }
        if (at >= 0 && !TryParseDays(text[..at], window.Days))
        {
            return false;
        }
        window.StartMinute = start;
        window.EndMinute = end;
        window.BytesPerSecondMax = rate;
        return true;
    }

    public static string Format(RateWindowView window)
    {
        var text = new StringBuilder();
        text.AppendJoin(',', window.Days.Select(static day => day is >= 1 and <= 7 ? DayNames[day - 1] : "?"));
        return text.Append(window.Days.Count > 0 ? "@" : "")
            .Append(CultureInfo.InvariantCulture, $"{window.StartMinute / 60:00}:{window.StartMinute % 60:00}-{window.EndMinute / 60:00}:{window.EndMinute % 60:00}")
            .Append(window.BytesPerSecondMax is { } rate ? $" {Units.Rate(rate)}" : " no limit").ToString();
    }

    private static bool TryParseRate(string text, out ulong rate)
    {
        rate = 0;
        return text == "none" || (ByteCount.TryParse(text, out rate) && rate > 0);
    }

    /// <summary>Up to 24:00.</summary>
    private static bool TryParseMinute(string text, out uint minute)
    {
        minute = 0;
        if (text is not [_, _, ':', _, _]
            || !uint.TryParse(text[..2], NumberStyles.None, CultureInfo.InvariantCulture, out var hours) || !uint.TryParse(text[3..], NumberStyles.None, CultureInfo.InvariantCulture, out var minutes))
        {
            return false;
        }
        minute = (hours * 60) + minutes;
        return minutes < 60 && minute <= 1440;
    }

    /// <summary>Single days and spans of them, which may go over Sunday.</summary>
    private static bool TryParseDays(string text, Google.Protobuf.Collections.RepeatedField<uint> days)
    {
        foreach (var part in text.Split(','))
        {
            var ends = part.Split('-');
            var first = Array.IndexOf(DayNames, ends[0].ToLowerInvariant());
            var last = ends.Length == 1 ? first : ends.Length == 2 ? Array.IndexOf(DayNames, ends[1].ToLowerInvariant()) : -1;
            if (first < 0 || last < 0)
            {
                return false;
            }
            for (var day = first; ; day = (day + 1) % 7)
            {
                if (!days.Contains((uint)day + 1))
                {
                    days.Add((uint)day + 1);
                }
                if (day == last)
                {
                    break;
                }
            }
        }
        return true;
    }
}
