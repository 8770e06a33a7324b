using Spectre.Console;
using VirtBackup.Cli.Output;

namespace VirtBackup.Cli.Views;

/// <summary>Jobs for people.</summary>
internal static class JobTables
{
    public static void WriteList(IAnsiConsole console, IReadOnlyList<JobView> jobs)
    {
        if (jobs.Count == 0)
        {
            console.WriteLine("There are no jobs.");
            return;
        }
        var table = new ColumnTable("JOB", "KIND", "VM", "STATE", "?CREATED", "?>DURATION", "?>PROGRESS", "?POINT");
        foreach (var job in jobs)
        {
            table.AddRow(
                TextLayout.Cell(Units.ShortId(job.JobId)), TextLayout.Cell(job.Kind), TextLayout.Cell(job.Vm ?? "-"), StateOf(job),
                TextLayout.Cell(Units.Time(job.CreateTime)), TextLayout.Cell(DurationOf(job) ?? "-"), TextLayout.Cell(ProgressOf(job)),
                TextLayout.Cell(job.PointId is { } point ? Units.ShortId(point) : "-"));
        }
        table.Write(console);
    }

    public static void WriteOne(IAnsiConsole console, JobView job)
    {
        TextLayout.Facts(
            console,
            ("Job", TextLayout.Cell(job.JobId)),
            ("Kind", TextLayout.Cell(job.Kind)),
            ("State", StateOf(job)),
            ("Failure", TextLayout.Optional(job.Failure is { } failure ? $"{failure.Message} ({failure.Reason})" : null, TextLayout.Bad)),
            ("VM", TextLayout.Optional(job.Vm)),
            ("Agent", TextLayout.Optional(job.Agent)),
            ("Recovery point", TextLayout.Optional(job.PointId)),
            ("Created", TextLayout.Cell(Units.Time(job.CreateTime))),
            ("Started", TextLayout.Cell(Units.Time(job.StartTime))),
            ("Ended", TextLayout.Cell(Units.Time(job.EndTime))),
            ("Duration", TextLayout.Optional(DurationOf(job))),
            ("Attempt", job.Attempt > 1 ? TextLayout.Cell(Units.Count(job.Attempt)) : null),
            ("Progress", TextLayout.Optional(LongProgressOf(job))),
            ("Chunks", TextLayout.Optional(ChunksOf(job))),
            ("Audited", AuditOf(job)));
        if (job.Result is { } result)
        {
            ResultTables.Write(console, job, result);
        }
    }

    public static Text StateOf(JobView job) => job.State switch
    {
        "succeeded" => TextLayout.Cell(job.State, TextLayout.Good),
        "failed" => TextLayout.Cell(job.State, TextLayout.Bad),
        "cancelled" => TextLayout.Cell(job.State, TextLayout.Doubtful),
        _ => TextLayout.Cell(job.CancelRequested ? $"{job.State}, cancelling" : job.State),
    };

    public static string? DurationOf(JobView job) => job.DurationSeconds is { } seconds ? Units.Duration(TimeSpan.FromSeconds(seconds)) : null;

    private static string ProgressOf(JobView job) => job switch
    {
        { State: "succeeded" } => "100.0%",
        { Progress: { BytesTotal: > 0 } progress } => Units.Percent(progress.BytesDone, progress.BytesTotal),
        _ => "-",
    };

    private static string? LongProgressOf(JobView job) => job.Progress is { } progress && (progress.Phase is not null || progress.BytesTotal > 0)
        ? $"{progress.Phase ?? "working"}: {Units.Bytes(progress.BytesDone)} of {Units.Bytes(progress.BytesTotal)}, {Units.Bytes(progress.BytesSent)} sent"
        : null;

    private static Text? AuditOf(JobView job) => job.Progress switch
    {
        { AuditMisses: > 0 } progress => TextLayout.Cell($"{Units.Bytes(progress.BytesAudited)} called unchanged: {Units.Count(progress.AuditMisses)} chunks had changed", TextLayout.Bad),
        { BytesAudited: > 0 } progress => TextLayout.Cell($"{Units.Bytes(progress.BytesAudited)} called unchanged, all as before"),
        _ => null,
    };

    private static string? ChunksOf(JobView job) => job.Progress is { } progress && (progress.ChunksNew | progress.ChunksKnown | progress.ChunksZero) != 0
        ? $"{Units.Count(progress.ChunksNew)} new, {Units.Count(progress.ChunksKnown)} known, {Units.Count(progress.ChunksZero)} zero"
        : null;
}
