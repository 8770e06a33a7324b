using System.CommandLine;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Commands.Retention;

/// <summary>The options that say what is kept.</summary>
internal sealed class RuleChoices
{
    private readonly Option<uint> _last = Count("--last", "Keep this many of the newest points");
    private readonly Option<uint> _hourly = Count("--hourly", "Keep the newest point of each of so many hours");
    private readonly Option<uint> _daily = Count("--daily", "Keep the newest point of each of so many days (UTC)");
    private readonly Option<uint> _weekly = Count("--weekly", "Keep the newest point of each of so many weeks (Monday to Sunday)");
    private readonly Option<uint> _monthly = Count("--monthly", "Keep the newest point of each of so many months");
    private readonly Option<uint> _yearly = Count("--yearly", "Keep the newest point of each of so many years");

    private readonly Option<TimeSpan?> _within = new("--within")
    {
        Description = "Keep every point that is less than so much older than the newest: 48h or 14d", HelpName = "TIME", CustomParser = Durations.Parse,
    };

    public void AddTo(Command command)
    {
        foreach (var option in new Option[] { _last, _hourly, _daily, _weekly, _monthly, _yearly, _within })
        {
            command.Add(option);
        }
    }

    public RetentionRules Read(ParseResult parse) => new()
    {
        KeepLast = parse.GetValue(_last),
        KeepHourly = parse.GetValue(_hourly),
        KeepDaily = parse.GetValue(_daily),
        KeepWeekly = parse.GetValue(_weekly),
        KeepMonthly = parse.GetValue(_monthly),
        KeepYearly = parse.GetValue(_yearly),
        KeepWithinHours = (uint)Math.Ceiling((parse.GetValue(_within) ?? TimeSpan.Zero).TotalHours),
    };

    public static bool IsEmpty(RetentionRules rules) => rules.Equals(new RetentionRules());

    private static Option<uint> Count(string name, string description) => new(name) { Description = description, HelpName = "N" };
}
