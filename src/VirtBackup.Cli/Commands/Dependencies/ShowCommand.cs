using System.CommandLine;
using VirtBackup.Cli.Connection;
using VirtBackup.Cli.Output;
using VirtBackup.Cli.Views;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Commands.Dependencies;

internal sealed class ShowCommand : RemoteCommand
{
    private readonly Argument<string?> _machine = new("vm")
    {
        Description = "Only this virtual machine, all that it needs, and all that need it: name, id, or an unambiguous start of the id [default: all]",
        Arity = ArgumentArity.ZeroOrOne,
    };

    public ShowCommand(CliContext context)
        : base("show", "Show in which stages virtual machines can be started, and what each waits for", context) => Add(_machine);

    protected override async Task<int> RunAsync(ParseResult parse, ControllerConnection controller, Report report, CancellationToken cancellationToken)
    {
        var request = new GetDependenciesRequest { Vm = parse.GetValue(_machine) ?? "" };
        var response = await controller.CallAsync(controller.Recovery.GetDependenciesAsync(request, cancellationToken: cancellationToken), cancellationToken, NextSteps.ListMachines);
        report.Write(DependencyListView.Of(response), DependencyTables.WriteStages);
        return ExitCode.Succeeded;
    }
}
