using System.CommandLine;
using VirtBackup.Cli.Connection;
using VirtBackup.Cli.Output;
using VirtBackup.Cli.Views;

namespace VirtBackup.Cli.Commands.RecoveryPoints;

internal sealed class ListCommand : RemoteCommand
{
    private readonly Option<string?> _machine = new("--vm") { Description = "Only points of this virtual machine", HelpName = "VM" };
    private readonly Option<bool> _forgotten = new("--forgotten") { Description = "Also points that were forgotten" };

    public ListCommand(CliContext context)
        : base("list", "List recovery points, newest first", context)
    {
        Add(_machine);
        Add(_forgotten);
    }

    protected override async Task<int> RunAsync(ParseResult parse, ControllerConnection controller, Report report, CancellationToken cancellationToken)
    {
        var points = await controller.ListPointsAsync(parse.GetValue(_machine) ?? "", parse.GetValue(_forgotten), int.MaxValue, cancellationToken);
        report.Write(new { RecoveryPoints = points.ConvertAll(PointView.Of) }, static (console, list) => PointTables.WriteList(console, list.RecoveryPoints));
        return ExitCode.Succeeded;
    }
}
