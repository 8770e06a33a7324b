using System.Globalization;
using Spectre.Console;
using VirtBackup.Cli.Output;

namespace VirtBackup.Cli.Views;

/// <summary>Audits of a machine's change tracking, for people.</summary>
internal static class TrackingAuditTables
{
    /// <summary>What the newest one read, what such a run finds, when all was read again, and what to do about a missed change.</summary>
    public static void Write(IAnsiConsole console, string machine, TrackingAuditView? audit)
    {
        if (audit is null)
        {
            return;
        }
        TextLayout.Title(console, "Audit of change tracking");
        TextLayout.Facts(
            console,
            ("Newest", audit.RotationBytes == 0 ? null : TextLayout.Cell(
                $"{Units.Time(audit.RunTime)}: {Units.Bytes(audit.AuditedBytes)} called unchanged were read again{(audit.Cut ? "; the time limit left some for the next run" : "")}")),
            ("Not audited", TextLayout.Optional(audit.Omitted, TextLayout.Doubtful)),
            ("Rotation", audit.RotationBytes == 0 ? null : TextLayout.Cell(RotationOf(audit))),
            ("Last whole", TextLayout.Optional(audit.RotationTime is { } whole ? Units.Time(whole) : null)),
            ("One run finds", audit.RotationBytes == 0 ? null : TextLayout.Cell(
                $"1 lost block with {Percent(audit.Detects1)}, 10 with {Percent(audit.Detects10)}, 100 with {Percent(audit.Detects100)}; a whole rotation finds each")),
            ("Suspect", TextLayout.Optional(audit.SuspectTime is { } suspect ? $"since {Units.Time(suspect)}: the next run reads in full" : null, TextLayout.Bad)));
        if (audit.MissTime is { } missed)
        {
            console.WriteLine();
            console.Write(TextLayout.Cell($"{Units.Time(missed)}: change tracking missed a change ({audit.Miss}). Recovery points before that run may lack changes.", TextLayout.Bad));
            console.WriteLine();
            console.Write(TextLayout.Cell($"Find out what wrote to the disk past the hypervisor, then: virtbackup vm accept {machine}"));
            console.WriteLine();
        }
    }

    private static string RotationOf(TrackingAuditView audit)
    {
        var done = $"{Units.Percent(audit.RotatedBytes, audit.RotationBytes)} of {Units.Bytes(audit.RotationBytes)} in {audit.RunsTaken} {Plural(audit.RunsTaken, "run")} (planned: all in {audit.Runs})";
        return audit.RunsLeft == 0
            ? $"whole with the newest run, after {audit.RunsTaken} {Plural(audit.RunsTaken, "run")}"
            : $"{done}; whole after {audit.RunsLeft} more {Plural(audit.RunsLeft, "run")}{(audit.DaysLeft is { } days ? $", {Days(days)}" : "")}";
    }

    private static string Days(double days) => days < 1
        ? "in less than a day" : $"in {days.ToString(days < 10 ? "0.0" : "0", CultureInfo.InvariantCulture)} days";

    private static string Plural(uint count, string word) => count == 1 ? word : word + "s";

    private static string Percent(double share) =>
        (share * 100).ToString(share is >= 0.9995 and < 1 ? "0.0000" : share is 0 or >= 0.1 ? "0.0" : "0.000", CultureInfo.InvariantCulture) + "%";
}
