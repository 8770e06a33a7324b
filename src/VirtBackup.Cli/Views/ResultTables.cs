using Spectre.Console;
using VirtBackup.Cli.Output;

namespace VirtBackup.Cli.Views;

/// <summary>Results of jobs for people.</summary>
internal static class ResultTables
{
    /// <summary>Damaged ranges shown for each damaged object; JSON has them all.</summary>
    private const int RangesShown = 5;

    public static void Write(IAnsiConsole console, JobView job, ResultView result)
    {
        switch (result)
        {
            case { Backup: { } point }:
                WriteBackup(console, job, point);
                break;
            case { Restore: { } restore }:
                WriteRestore(console, job, restore);
                break;
            case { BackupPlan: { } plan }:
                WritePlan(console, plan);
                break;
            case { RestoreCheck: { } check }:
                EstimateTables.WriteCheck(console, check);
                break;
            case { Verify: { } verify }:
                WriteVerify(console, verify);
                break;
            case { Retention: { } retention }:
                RetentionTables.WriteResult(console, retention);
                break;
            case { Recovery: { } recovery }:
                RecoveryTables.Write(console, recovery);
                break;
            case { Scrub: { } scrub }:
                DamageTables.Write(console, scrub);
                break;
            case { Migration: { } migration }:
                MigrationTables.WriteResult(console, migration);
                break;
            case { MigrationPlan: { } plan }:
                MigrationTables.WritePlan(console, plan);
                break;
            case { Collection: { } collection }:
                collection.Write(console);
                break;
            case { Replication: { } replication }:
                ReplicationTables.WriteResult(console, replication);
                break;
            case { GroupBackup: { } point }:
                GroupTables.WriteResult(console, point);
                break;
        }
    }

    public static void WriteBackup(IAnsiConsole console, JobView job, PointView point)
    {
        TextLayout.Title(console, "Result");
        TextLayout.Facts(
            console,
            ("Recovery point", TextLayout.Cell(point.PointId)),
            ("VM", TextLayout.Cell($"{point.Vm} (backup {Units.Count(point.Sequence)})")),
            ("Consistency", ConsistencyOf(point)),
            ("Frozen", FrozenOf(point)),
            ("Running state", RunningStateOf(point)),
            ("Guest's writes", TextLayout.Optional(point.Impact?.Text)),
            ("Read", TextLayout.Cell($"{Units.Bytes(point.ReadBytes)} of {Units.Bytes(point.LogicalBytes)}")),
            ("Stored", TextLayout.Cell(Units.Bytes(point.StoredBytes))),
            ("Duration", TextLayout.Optional(JobTables.DurationOf(job))),
            ("Rate", job.DurationSeconds is > 0 and var seconds ? TextLayout.Cell(Units.Rate(point.ReadBytes / seconds)) : null));
        WriteStreams(console, point);
    }

    public static void WriteStreams(IAnsiConsole console, PointView point)
    {
        if (point.Streams.Count == 0)
        {
            return;
        }
        console.WriteLine();
        var table = TextLayout.Columns("STREAM", "KIND", ">SIZE", ">READ", "FORMAT", "WHY");
        foreach (var stream in point.Streams)
        {
            table.AddRow(
                TextLayout.Cell(stream.Name), TextLayout.Cell(stream.Kind), TextLayout.Cell(Units.Bytes(stream.LengthBytes)), TextLayout.Cell(Units.Bytes(stream.ReadBytes)),
                TextLayout.Cell(stream.Format ?? "-"), TextLayout.Cell(stream.ReadReason ?? "-"));
        }
        console.Write(table);
    }

    public static Text ConsistencyOf(PointView point) => TextLayout.Cell(
        point.ConsistencyDetail is { } detail ? $"{point.Consistency} ({detail})" : point.Consistency,
        point.Consistency == "crash" ? TextLayout.Doubtful : TextLayout.Good);

    /// <summary>For how long the guest stood still; null: it did not.</summary>
    public static Text? FrozenOf(PointView point) => point.FrozenMs is { } frozen ? TextLayout.Cell($"{Units.Count(frozen)} ms") : null;

    /// <summary>Null: it is not part of the point.</summary>
    public static Text? RunningStateOf(PointView point) => point.State is { } state
        ? TextLayout.Cell($"{Units.Bytes(state.MemoryBytes)} of memory, {Units.Bytes(state.StoredBytes)} stored; the guest stood still for {Units.Count(state.PausedMs)} ms") : null;

    private static void WriteRestore(IAnsiConsole console, JobView job, RestoreResultView restore)
    {
        TextLayout.Title(console, "Result");
        TextLayout.Facts(
            console,
            [
                ("VM", TextLayout.Cell($"{restore.Name} ({(restore.Running ? "running" : "not started")})")),
                ("VM id", TextLayout.Cell(restore.VmId)),
                ("Written", TextLayout.Cell(Units.Bytes(restore.BytesWritten))),
                ("Compared", restore.BytesCompared + restore.BytesSkipped == 0 ? null
                    : TextLayout.Cell($"{Units.Bytes(restore.BytesCompared)}; {Units.Bytes(restore.BytesSkipped)} were equal already")),
                ("Duration", TextLayout.Optional(JobTables.DurationOf(job))),
                ("Estimate", TextLayout.Optional(EstimateTables.OutcomeOf(restore.Estimate))),
                .. restore.Details.Select(static detail => (TextLayout.Clean(detail.Name), (Text?)TextLayout.Cell(detail.Value))),
            ]);
        WriteDifferences(console, restore);
    }

    private static void WriteDifferences(IAnsiConsole console, RestoreResultView restore)
    {
        TextLayout.Title(console, "Differences from the captured machine");
        if (restore.Differences is not { Count: > 0 } differences)
        {
            console.WriteLine(restore.Differences is null ? "not known: the restored machine could not be described" : "none");
            return;
        }
        var table = TextLayout.Columns("ITEM", "CAPTURED", "RECREATED");
        foreach (var difference in differences)
        {
            table.AddRow(TextLayout.Cell(difference.Item), TextLayout.Cell(difference.Captured ?? "-"), TextLayout.Cell(difference.Recreated ?? "-"));
        }
        console.Write(table);
        if (restore.DifferencesTotal > (ulong)differences.Count)
        {
            console.WriteLine($"and {restore.DifferencesTotal - (ulong)differences.Count} more");
        }
    }

    private static void WritePlan(IAnsiConsole console, BackupPlanView plan)
    {
        console.WriteLine();
        var table = TextLayout.Columns("DISK", "VERDICT", ">SIZE", ">TO READ", "WHY");
        foreach (var disk in plan.Disks)
        {
            var (verdict, style) = disk switch
            {
                { Skipped: true } => ("skipped", TextLayout.Doubtful),
                { ChangedOnly: true } => ("changes only", TextLayout.Good),
                _ => ("whole disk", Style.Plain),
            };
            table.AddRow(
                TextLayout.Cell(disk.Name), TextLayout.Cell(verdict, style), TextLayout.Cell(Units.Bytes(disk.LengthBytes)),
                TextLayout.Cell(disk.Skipped ? "-" : Units.Bytes(disk.ReadBytes)), TextLayout.Cell(disk.Reason ?? "-"));
        }
        console.Write(table);
        var read = plan.Disks.Where(static disk => !disk.Skipped).Aggregate(0UL, static (sum, disk) => sum + disk.ReadBytes);
        var time = plan.Time is { } told
            ? $"about {Units.Duration(TimeSpan.FromSeconds(told.Seconds))}, judged by {told.Backups} {(told.Backups == 1 ? "backup" : "backups")} of {told.Vm ?? "other machines of this agent"} at {Units.Rate(told.ReadBytesPerSecond)}"
            : "not known before this agent's first backup";
        console.Write(new Text($"\nTo read: {Units.Bytes(read)}. Time: {TextLayout.Clean(time)}."));
        console.WriteLine();
        if (plan.FleeceBytesMax == 0)
        {
            console.WriteLine("Scratch space on the host: none is needed.");
            return;
        }
        var space = $"Scratch space on the host: at most {Units.Bytes(plan.FleeceBytesMax)} while the backup runs, {Units.Bytes(plan.FleeceBytesFree)} free.";
        console.Write(new Text($"{space}\n", plan.FleeceFits ? Style.Plain : TextLayout.Doubtful));
    }

    public static void WriteVerify(IAnsiConsole console, VerifyResultView verify)
    {
        TextLayout.Title(console, "Result");
        TextLayout.Facts(
            console,
            ("Objects", TextLayout.Cell(Units.Count(verify.Objects))),
            ("Read", TextLayout.Cell(Units.Bytes(verify.Bytes))),
            ("Records", TextLayout.Cell(Units.Count(verify.Records))),
            ("Damaged", verify.DamagesTotal == 0 ? TextLayout.Cell("none", TextLayout.Good) : TextLayout.Cell(Units.Count(verify.DamagesTotal), TextLayout.Bad)));
        foreach (var damage in verify.Damages)
        {
            console.WriteLine();
            console.Write(TextLayout.Cell(damage.Object, TextLayout.Bad));
            console.Write(TextLayout.Cell($": {damage.Problem}"));
            console.WriteLine();
            foreach (var range in damage.Ranges.Take(RangesShown))
            {
                console.Write(TextLayout.Cell(
                    $"  {range.Vm} {Units.ShortId(range.PointId ?? "")} {range.Stream}: {Units.Bytes(range.Length)} from {Units.Bytes(range.Offset)}"));
                console.WriteLine();
            }
            if (damage.Ranges.Count > RangesShown)
            {
                console.WriteLine($"  and {damage.Ranges.Count - RangesShown} more ranges: see --output json");
            }
        }
    }
}
