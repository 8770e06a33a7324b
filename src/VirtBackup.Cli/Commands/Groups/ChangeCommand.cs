using System.CommandLine;
using VirtBackup.Cli.Connection;
using VirtBackup.Cli.Output;
using VirtBackup.Cli.Views;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Commands.Groups;

/// <summary><c>add</c> and <c>remove</c>, which may set the bound on the way.</summary>
internal sealed class ChangeCommand : RemoteCommand
{
    private readonly bool _adds;
    private readonly Argument<string> _group = ReferenceArguments.Group();
    private readonly Argument<string[]> _machines;
    private readonly Option<uint>? _bound;

    public ChangeCommand(CliContext context, bool adds)
        : base(adds ? "add" : "remove", adds ? "Add virtual machines to a group, or change its bound" : "Take virtual machines out of a group", context)
    {
        _adds = adds;
        _machines = ReferenceArguments.Machines(adds ? ArgumentArity.ZeroOrMore : ArgumentArity.OneOrMore);
        Add(_group);
        Add(_machines);
        if (adds)
        {
            Add(_bound = SkewBound.Option("as before"));
        }
    }

    protected override async Task<int> RunAsync(ParseResult parse, ControllerConnection controller, Report report, CancellationToken cancellationToken)
    {
        var request = new ChangeGroupRequest { Name = parse.GetRequiredValue(_group), SkewBoundMs = _bound is null ? 0 : parse.GetValue(_bound) };
        var machines = parse.GetValue(_machines) ?? [];
        if (machines.Length == 0 && request.SkewBoundMs == 0)
        {
            throw CommandFault.Usage("Name virtual machines to be added, or give --skew-bound.", "virtbackup group add --help");
        }
        (_adds ? request.AddVms : request.RemoveVms).Add(machines);
        var response = await controller.CallAsync(controller.Groups.ChangeGroupAsync(request, cancellationToken: cancellationToken), cancellationToken, NextSteps.ListGroups);
        report.Write(GroupView.Of(response.Group), GroupTables.WriteChanged);
        return ExitCode.Succeeded;
    }
}
