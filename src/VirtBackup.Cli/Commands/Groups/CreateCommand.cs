using System.CommandLine;
using VirtBackup.Cli.Connection;
using VirtBackup.Cli.Output;
using VirtBackup.Cli.Views;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Commands.Groups;

internal sealed class CreateCommand : RemoteCommand
{
    private readonly Argument<string> _name = new("name") { Description = "Name of the new group" };
    private readonly Argument<string[]> _machines = ReferenceArguments.Machines(ArgumentArity.ZeroOrMore);
    private readonly Option<uint> _bound = SkewBound.Option("1000");

    public CreateCommand(CliContext context)
        : base("create", "Make a group of virtual machines that are cut at one instant", context)
    {
        Add(_name);
        Add(_machines);
        Add(_bound);
    }

    protected override async Task<int> RunAsync(ParseResult parse, ControllerConnection controller, Report report, CancellationToken cancellationToken)
    {
        var request = new CreateGroupRequest { Name = parse.GetRequiredValue(_name), SkewBoundMs = parse.GetValue(_bound) };
        request.Vms.Add(parse.GetValue(_machines) ?? []);
        var response = await controller.CallAsync(controller.Groups.CreateGroupAsync(request, cancellationToken: cancellationToken), cancellationToken, NextSteps.ListMachines);
        report.Write(GroupView.Of(response.Group), GroupTables.WriteChanged);
        return ExitCode.Succeeded;
    }
}
