using System.CommandLine;
using VirtBackup.Cli.Connection;
using VirtBackup.Cli.Output;
using VirtBackup.Cli.Views;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Commands.Dependencies;

internal sealed class RemoveCommand : RemoteCommand
{
    private readonly Argument<string> _machine = ReferenceArguments.Machine();
    private readonly Option<string> _needs = NeededMachine.Option();

    public RemoveCommand(CliContext context)
        : base("remove", "Say that a virtual machine does not need another any more", context)
    {
        Add(_machine);
        Add(_needs);
    }

    protected override async Task<int> RunAsync(ParseResult parse, ControllerConnection controller, Report report, CancellationToken cancellationToken)
    {
        var request = new RemoveDependencyRequest { Vm = parse.GetRequiredValue(_machine), Needs = parse.GetRequiredValue(_needs) };
        var response = await controller.CallAsync(controller.Recovery.RemoveDependencyAsync(request, cancellationToken: cancellationToken), cancellationToken, NextSteps.ShowDependencies);
        report.Write(DependencyView.Of(response.Machine), DependencyTables.WriteOne);
        return ExitCode.Succeeded;
    }
}
