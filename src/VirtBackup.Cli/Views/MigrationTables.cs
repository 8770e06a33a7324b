using Spectre.Console;
using VirtBackup.Cli.Output;

namespace VirtBackup.Cli.Views;

/// <summary>Migrations for people.</summary>
internal static class MigrationTables
{
    public static void WriteList(IAnsiConsole console, IReadOnlyList<MigrationView> migrations)
    {
        if (migrations.Count == 0)
        {
            console.WriteLine("There are no migrations.");
            return;
        }
        var table = new ColumnTable("MIGRATION", "VM", "FROM", "TO", "STATE", "?STEP", "?CREATED", "?>DOWNTIME", "?SOURCE'S COPY");
        foreach (var migration in migrations)
        {
            table.AddRow(
                TextLayout.Cell(Units.ShortId(migration.MigrationId)), TextLayout.Cell(migration.Vm), TextLayout.Cell(migration.SourceAgent), TextLayout.Cell(migration.TargetAgent),
                StateOf(migration), TextLayout.Cell(migration.Step ?? "-"), TextLayout.Cell(Units.Time(migration.CreateTime)),
                TextLayout.Cell(migration.Result?.DowntimeSeconds is { } seconds ? Shown(seconds) : "-"), TextLayout.Cell(migration.SourceCopy));
        }
        table.Write(console);
    }

    public static void WriteOne(IAnsiConsole console, MigrationView migration)
    {
        TextLayout.Facts(
            console,
            ("Migration", TextLayout.Cell(migration.MigrationId)),
            ("VM", TextLayout.Cell(migration.Vm)),
            ("From", TextLayout.Cell($"{migration.SourceAgent} ({migration.SourceCopy})")),
            ("To", TextLayout.Cell($"{migration.TargetAgent} ({migration.TargetCopy})")),
            ("Kind", TextLayout.Cell(migration.SourceAgent == migration.TargetAgent ? "disks" : migration.Cold ? "cold" : "warm")),
            ("State", StateOf(migration)),
            ("Step", TextLayout.Optional(migration.Step)),
            ("Failure", TextLayout.Optional(migration.Failure, TextLayout.Bad)),
            ("Created", TextLayout.Cell(Units.Time(migration.CreateTime))),
            ("Ended", TextLayout.Cell(Units.Time(migration.EndTime))));
        if (migration.Result is { } result)
        {
            WriteResult(console, result);
        }
    }

    public static void WriteResult(IAnsiConsole console, MigrationResultView result)
    {
        TextLayout.Title(console, "Result");
        TextLayout.Facts(
            console,
            ("Downtime", result.DowntimeSeconds is { } downtime ? TextLayout.Cell(Shown(downtime)) : null),
            ("Predicted", TextLayout.Optional(OutcomeOf(result.Interruption))),
            ("Copying", TextLayout.Optional(EstimateTables.OutcomeOf(result.Estimate))),
            ("Read", result.BytesRead > 0 ? TextLayout.Cell(Units.Bytes(result.BytesRead)) : null),
            ("Written", TextLayout.Cell(Units.Bytes(result.BytesWritten))),
            ("Duration", TextLayout.Cell(Shown(result.ElapsedSeconds))),
            ("Where", TextLayout.Optional(result.Where)));
        if (result.Rounds.Count > 0)
        {
            console.WriteLine();
            var table = TextLayout.Columns(">ROUND", "WHAT", ">READ", ">COPIED IN", ">WRITTEN", ">APPLIED IN");
            foreach (var round in result.Rounds)
            {
                table.AddRow(
                    TextLayout.Cell(Units.Count(round.Number)), TextLayout.Cell(round.Number == 0 ? "all" : round.Last ? "last, machine off" : "changes"), TextLayout.Cell(Units.Bytes(round.BytesRead)),
                    TextLayout.Cell(Shown(round.BackupSeconds)), TextLayout.Cell(Units.Bytes(round.BytesWritten)), TextLayout.Cell(Shown(round.ApplySeconds)));
            }
            console.Write(table);
        }
        WriteDisks(console, result.Disks);
        foreach (var note in result.Notes)
        {
            console.WriteLine();
            console.Write(TextLayout.Cell(note));
            console.WriteLine();
        }
    }

    public static void WritePlan(IAnsiConsole console, MigrationPlanView plan)
    {
        console.WriteLine();
        EstimateTables.WriteFindings(console, plan.Findings);
        WriteDisks(console, plan.Disks);
        console.Write(plan.Possible ? new Text("\nThe migration is possible.\n", TextLayout.Good) : new Text("\nThe migration is not possible as asked.\n", TextLayout.Bad));
        if (plan.Estimate is { } estimate)
        {
            EstimateTables.WriteEstimate(console, estimate);
        }
        if (plan.Interruption is not { } interruption)
        {
            return;
        }
        TextLayout.Title(console, "Interruption");
        TextLayout.Facts(
            console,
            ("Predicted", TextLayout.Cell($"{Span(interruption)} (half of such interruptions are over after the first, nine of ten after the second)")),
            ("Last increment", plan.LastIncrementBytes is { } bytes ? TextLayout.Cell($"{Units.Bytes(bytes)}, by the newest incremental backup") : null),
            ("Judged by", TextLayout.Cell(interruption.JudgedBy switch
            {
                0 => "first guesses, because no machine was migrated on this path before",
                1 => "one migration on this path",
                _ => $"{interruption.JudgedBy} migrations on this path",
            })),
            ("Record", TextLayout.Cell(interruption.Record.Reliance("no prediction on this path has been put to the test yet", "on this path"))));
    }

    private static void WriteDisks(IAnsiConsole console, IReadOnlyList<MovedDiskView> disks)
    {
        if (disks.Count == 0)
        {
            return;
        }
        console.WriteLine();
        var table = TextLayout.Columns("DISK", "FROM", "TO", "FORMAT", ">SIZE", ">MOVED");
        foreach (var disk in disks)
        {
            table.AddRow(
                TextLayout.Cell(disk.Name), TextLayout.Cell(disk.OldPath), TextLayout.Cell(disk.NewPath), TextLayout.Cell(disk.Format), TextLayout.Cell(Units.Bytes(disk.LengthBytes)),
                TextLayout.Cell(Units.Bytes(disk.BytesMoved)));
        }
        console.Write(table);
    }

    private static Text StateOf(MigrationView migration) => migration.State switch
    {
        "succeeded" => TextLayout.Cell(migration.State, TextLayout.Good),
        "failed" => TextLayout.Cell(migration.State, TextLayout.Bad),
        "cancelled" => TextLayout.Cell(migration.State, TextLayout.Doubtful),
        _ => TextLayout.Cell(migration.State),
    };

    private static string? OutcomeOf(InterruptionView? predicted) => predicted switch
    {
        null => null,
        { ActualSeconds: { } actual } when actual <= predicted.P90Seconds => $"{Span(predicted)}; it held",
        { ActualSeconds: not null } => $"{Span(predicted)}; it took longer",
        _ => Span(predicted),
    };

    private static string Span(InterruptionView predicted) => $"{Shown(predicted.P50Seconds)} to {Shown(predicted.P90Seconds)}";

    private static string Shown(double seconds) => Units.Duration(TimeSpan.FromSeconds(Math.Min(seconds, TimeSpan.FromDays(9999).TotalSeconds)));
}
