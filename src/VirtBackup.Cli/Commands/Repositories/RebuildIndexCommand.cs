using System.CommandLine;
using Spectre.Console;
using VirtBackup.Cli.Offline;
using VirtBackup.Cli.Output;
using VirtBackup.Cli.Views;
using VirtBackup.Identity;
using VirtBackup.Repository;

namespace VirtBackup.Cli.Commands.Repositories;

internal sealed class RebuildIndexCommand : ProgramCommand
{
    private readonly Option<string> _data = new("--data")
    {
        Description = "The stopped controller's folder", HelpName = "DIR", DefaultValueFactory = static _ => ControllerHome.DefaultFolder,
    };

    public RebuildIndexCommand(CliContext context)
        : base("rebuild-index", "Make the index of a stopped controller anew from its repository", context) => Add(_data);

    protected override async Task<int> RunAsync(ParseResult parse, CancellationToken cancellationToken)
    {
        var report = ReportFor(parse);
        using var line = new ProgressLine(report, Context.Time);
        var options = new RepositoryOptions { RebuildIndex = true, RebuildProgress = new Teller(line) };
        await using var controller = await StoppedController.OpenAsync(parse.GetRequiredValue(_data), options, Context, cancellationToken);
        var found = controller.Repository.OpenReport;
        var held = await controller.Repository.GetStatisticsAsync(cancellationToken);
        var view = new RebuildView(
            controller.Repository.Head.Uuid.ToString(), held.Packs, held.PackBytes, held.Chunks, held.Nodes, held.Points, line.Elapsed.TotalSeconds, found.ProblemCount,
            [.. found.Problems.Select(static problem => new ProblemView(problem.ObjectKey, problem.Problem))]);
        line.Dispose();
        report.Write(view, Write);
        return view.ProblemsTotal == 0 ? ExitCode.Succeeded : ExitCode.Damaged;
    }

    private static void Write(IAnsiConsole console, RebuildView view)
    {
        console.Write(TextLayout.Cell("The index is rebuilt.", TextLayout.Good));
        console.WriteLine();
        TextLayout.Facts(
            console,
            ("Repository", TextLayout.Cell(view.RepositoryId)),
            ("Packs", TextLayout.Cell($"{Units.Count((ulong)view.Packs)} ({Units.Bytes((ulong)view.PackBytes)})")),
            ("Chunks", TextLayout.Cell(Units.Count((ulong)view.Chunks))),
            ("Map nodes", TextLayout.Cell(Units.Count((ulong)view.Nodes))),
            ("Recovery points", TextLayout.Cell(Units.Count((ulong)view.RecoveryPoints))),
            ("Duration", TextLayout.Cell(Units.Duration(TimeSpan.FromSeconds(view.Seconds)))),
            ("Left out", view.ProblemsTotal == 0 ? TextLayout.Cell("nothing", TextLayout.Good) : TextLayout.Cell($"{Units.Count((ulong)view.ProblemsTotal)} damaged objects", TextLayout.Bad)));
        foreach (var problem in view.Problems)
        {
            console.Write(TextLayout.Cell($"{problem.Object}: {problem.Problem}", TextLayout.Bad));
            console.WriteLine();
        }
    }

    private sealed class Teller(ProgressLine line) : IProgress<RebuildProgress>
    {
        public void Report(RebuildProgress value) => line.Show(() =>
            $"rebuilding the index: {Units.Count((ulong)value.Packs)} packs, {Units.Count((ulong)value.Records)} records, {Units.Count((ulong)value.References)} references, {Units.Count((ulong)value.Rows)} rows, {Units.Count((ulong)value.Points)} recovery points");
    }
}
