using System.CommandLine;
using VirtBackup.Cli.Connection;
using VirtBackup.Cli.Output;
using VirtBackup.Cli.Views;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Commands.Jobs;

/// <summary>Lists jobs, or with a kind only those of the kind: <c>backup list</c> is one.</summary>
internal sealed class ListCommand : RemoteCommand
{
    private readonly string? _kind;
    private readonly Option<string?> _machine = new("--vm") { Description = "Only jobs of this virtual machine", HelpName = "VM" };
    private readonly Option<bool> _running = new("--running") { Description = "Only jobs that have not ended" };

    private readonly Option<int> _limit = new("--limit")
    {
        Description = "How many at most", HelpName = "N", CustomParser = static result => BoundedNumber.Parse(result, "--limit"), DefaultValueFactory = static _ => 50,
    };

    public ListCommand(CliContext context, string description, string? kind = null)
        : base("list", description, context)
    {
        _kind = kind;
        Add(_machine);
        Add(_running);
        Add(_limit);
    }

    protected override async Task<int> RunAsync(ParseResult parse, ControllerConnection controller, Report report, CancellationToken cancellationToken)
    {
        Func<Job, bool> wanted = _kind is null ? static _ => true : job => job.Kind == _kind;
        var jobs = await controller.ListJobsAsync(
            parse.GetValue(_machine) ?? "", parse.GetValue(_running), parse.GetValue(_limit), wanted, cancellationToken);
        report.Write(new { Jobs = jobs.ConvertAll(JobView.Of) }, static (console, list) => JobTables.WriteList(console, list.Jobs));
        return ExitCode.Succeeded;
    }
}
