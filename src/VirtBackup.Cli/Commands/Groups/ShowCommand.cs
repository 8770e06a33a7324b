using System.CommandLine;
using VirtBackup.Cli.Connection;
using VirtBackup.Cli.Output;
using VirtBackup.Cli.Views;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Commands.Groups;

internal sealed class ShowCommand : RemoteCommand
{
    private const int PointsMax = 1000;

    private readonly Argument<string> _group = ReferenceArguments.Group();

    private readonly Option<uint> _limit = new("--limit")
    {
        Description = "How many of its newest recovery points at most (1 to 1000)", HelpName = "N", CustomParser = static result => (uint)BoundedNumber.Parse(result, "--limit", PointsMax), DefaultValueFactory = static _ => 20,
    };

    public ShowCommand(CliContext context)
        : base("show", "Show a group, its machines, and its recovery points with what is left of them", context)
    {
        Add(_group);
        Add(_limit);
    }

    protected override async Task<int> RunAsync(ParseResult parse, ControllerConnection controller, Report report, CancellationToken cancellationToken)
    {
        var request = new GetGroupRequest { Name = parse.GetRequiredValue(_group), PointsMax = parse.GetValue(_limit) };
        var response = await controller.CallAsync(controller.Groups.GetGroupAsync(request, cancellationToken: cancellationToken), cancellationToken, NextSteps.ListGroups);
        var view = new { Group = GroupView.Of(response.Group), GroupPoints = response.GroupPoints.Select(GroupPointView.Of).ToList() };
        report.Write(view, static (console, shown) => GroupTables.WriteOne(console, shown.Group, shown.GroupPoints));
        return ExitCode.Succeeded;
    }
}
