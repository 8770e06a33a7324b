using System.Globalization;

namespace VirtBackup.Cli.Output;

/// <summary>How quantities are written for people.</summary>
internal static class Units
{
    private static readonly string[] Names = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

    public static string Bytes(ulong bytes)
    {
        var (value, unit) = ((double)bytes, 0);
        // 1023.95 would be shown as 1024.0: the next unit then.
        for (; value >= 1023.95 && unit < Names.Length - 1; unit++)
        {
            value /= 1024;
        }
        return unit == 0 ? $"{bytes} B" : string.Create(CultureInfo.InvariantCulture, $"{value:0.0} {Names[unit]}");
    }

    public static string Rate(double bytesPerSecond) => Bytes((ulong)Math.Max(0, bytesPerSecond)) + "/s";

    public static string Count(ulong count) => count.ToString("#,0", CultureInfo.InvariantCulture);

    public static string Percent(ulong part, ulong whole) => whole == 0
        ? "-"
        : string.Create(CultureInfo.InvariantCulture, $"{Math.Min(100.0, 100.0 * part / whole):0.0}%");

    public static string Duration(TimeSpan time) => time switch
    {
        { TotalSeconds: < 0 } => "0s",
        { TotalSeconds: < 10 } => string.Create(CultureInfo.InvariantCulture, $"{time.TotalSeconds:0.0}s"),
        { TotalMinutes: < 1 } => $"{time.Seconds}s",
        { TotalHours: < 1 } => $"{time.Minutes}m {time.Seconds:00}s",
        { TotalDays: < 1 } => $"{time.Hours}h {time.Minutes:00}m",
        _ => $"{(int)time.TotalDays}d {time.Hours}h",
    };

    /// <summary>Local time.</summary>
    public static string Time(DateTimeOffset? time) => time is { } value
        ? value.ToLocalTime().ToString("yyyy-MM-dd HH:mm:ss", CultureInfo.InvariantCulture)
        : "-";

    /// <summary>Enough of an id to name it again on the command line.</summary>
    public static string ShortId(string id) => id.Length > 12 ? id[..12] : id;
}
