using System.CommandLine;
using VirtBackup.Cli.Offline.Extraction;
using VirtBackup.Cli.Output;
using VirtBackup.Core;
using VirtBackup.Identity;

namespace VirtBackup.Cli.Commands.Repositories;

/// <summary>Recovery points out of a repository's folder when there is nothing else left but the recovery kit.</summary>
internal sealed class ExtractCommand : ProgramCommand
{
    private readonly Argument<string?> _point = new("POINT")
    {
        Description = "Id of a recovery point, or its beginning; without it the points are listed", Arity = ArgumentArity.ZeroOrOne, HelpName = "POINT",
    };

    private readonly Option<string> _repository = new("--repository") { Description = "The repository's folder or address; nothing is written to it", HelpName = "PLACE", Required = true };
    private readonly Option<string> _kit = new("--kit") { Description = "The recovery kit", HelpName = "FILE", Required = true };
    private readonly Option<string?> _folder = new("--folder") { Description = "Where the disks go, raw: a folder that is empty or does not exist yet", HelpName = "DIR" };
    private readonly Option<string[]> _disks = new("--disk") { Description = "Only this disk (may be repeated)", HelpName = "DISK", DefaultValueFactory = static _ => [] };

    public ExtractCommand(CliContext context)
        : base("extract", "Get recovery points out with only the repository's folder and the recovery kit", context)
    {
        Add(_point);
        Add(_repository);
        Add(_kit);
        Add(_folder);
        Add(_disks);
    }

    protected override async Task<int> RunAsync(ParseResult parse, CancellationToken cancellationToken)
    {
        var report = ReportFor(parse);
        var wanted = parse.GetValue(_point);
        var folder = wanted is null ? null : RequireFolder(parse.GetValue(_folder));
        using var kit = RecoveryKit.Load(parse.GetRequiredValue(_kit));
        using var line = new ProgressLine(report, Context.Time);
        await using var extraction = await RepositoryExtraction.OpenAsync(StoreLocation.Parse(parse.GetRequiredValue(_repository)), kit, Context, line, cancellationToken);
        var points = await extraction.ListAsync(cancellationToken);
        if (wanted is null)
        {
            line.Dispose();
            report.Write(ExtractionListView.Of(points, extraction.Problems), static (console, view) => view.Write(console));
            return points.Exists(static point => point.Problem is not null) ? ExitCode.Damaged : ExitCode.Succeeded;
        }
        var point = Choose(points, wanted);
        Directory.CreateDirectory(folder!);
        if (!OperatingSystem.IsWindows())
        {
            File.SetUnixFileMode(folder!, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        }
        var written = await extraction.ExtractAsync(point, folder!, parse.GetValue(_disks) ?? [], line, cancellationToken);
        line.Dispose();
        report.Write(ExtractionView.Of(point, folder!, written), static (console, view) => view.Write(console));
        return ExitCode.Succeeded;
    }

    private static string RequireFolder(string? folder)
    {
        if (string.IsNullOrEmpty(folder))
        {
            throw CommandFault.Usage("Say where the disks go.", "add --folder DIR");
        }
        var path = Path.GetFullPath(folder);
        if (File.Exists(path) || (Directory.Exists(path) && Directory.EnumerateFileSystemEntries(path).Any()))
        {
            throw new CommandFault(ExitCode.Refused, $"'{path}' is not empty, or a file.", "choose another folder with --folder");
        }
        return path;
    }

    private static ExtractablePoint Choose(List<ExtractablePoint> points, string wanted)
    {
        var found = points.FindAll(point => point.Manifest?.Head.Point.ToString().StartsWith(wanted, StringComparison.OrdinalIgnoreCase) == true);
        return found switch
        {
            [{ Body: not null } point] => point,
            [{ Problem: { } problem }] => throw new CommandFault(ExitCode.Damaged, $"The recovery point cannot be opened: {problem}", "choose another point: leave POINT out to list them"),
            [] => throw new CommandFault(ExitCode.NotFound, $"There is no recovery point '{wanted}' in the repository.", "leave POINT out to list the points"),
            _ => throw CommandFault.Usage($"'{wanted}' is the beginning of {found.Count} recovery points.", "write more of the id"),
        };
    }
}
