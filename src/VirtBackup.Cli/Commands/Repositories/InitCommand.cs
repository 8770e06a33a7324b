using System.CommandLine;
using Spectre.Console;
using VirtBackup.Cli.Output;
using VirtBackup.Cli.Setup;
using VirtBackup.Identity;

namespace VirtBackup.Cli.Commands.Repositories;

internal sealed class InitCommand : ProgramCommand
{
    private readonly Option<string> _repository = new("--repository") { Description = "Folder or address (s3://BUCKET/PREFIX, azure://ACCOUNT/CONTAINER/PREFIX) for the new repository: empty, or not there yet", HelpName = "PLACE", Required = true };

    private readonly Option<string> _data = new("--data")
    {
        Description = "The stopped controller's folder", HelpName = "DIR", DefaultValueFactory = static _ => ControllerHome.DefaultFolder,
    };

    private readonly KitChoice _kit = new();

    public InitCommand(CliContext context)
        : base("init", "Make an empty repository for a stopped controller, in place of one that is lost or full; 'controller init' makes the first", context)
    {
        Add(_repository);
        Add(_data);
        Add(_kit.Option);
    }

    protected override async Task<int> RunAsync(ParseResult parse, CancellationToken cancellationToken)
    {
        var report = ReportFor(parse);
        var made = await new RepositorySetup(Context).ReplaceAsync(
            parse.GetRequiredValue(_data), parse.GetRequiredValue(_repository), _kit.HandOver(parse, report), cancellationToken);
        var view = new RepositoryInitView(made.Data, made.Repository, made.RepositoryId, made.PreviousRepository, made.PreviousRepositoryId, _kit.FileOf(parse));
        report.Write(view, Write);
        return ExitCode.Succeeded;
    }

    private static void Write(IAnsiConsole console, RepositoryInitView view)
    {
        console.Write(TextLayout.Cell("The repository is made; the controller uses it from its next start.", TextLayout.Good));
        console.WriteLine();
        TextLayout.Facts(
            console,
            ("Repository", TextLayout.Cell($"{view.Repository} ({view.RepositoryId})")),
            ("Controller", TextLayout.Cell(view.Data)),
            ("Before", TextLayout.Cell($"{view.PreviousRepository} ({view.PreviousRepositoryId}): untouched; keep its recovery kit as long as you keep it")),
            ("Recovery kit", TextLayout.Optional(view.Kit)),
            ("Next", TextLayout.Cell($"virtbackup controller run --data {view.Data}")));
    }
}

internal sealed record RepositoryInitView(string Data, string Repository, string RepositoryId, string PreviousRepository, string PreviousRepositoryId, string? Kit);
