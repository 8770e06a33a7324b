using System.CommandLine;
using VirtBackup.Cli.Connection;
using VirtBackup.Cli.Output;
using VirtBackup.Cli.Views;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Commands.Dependencies;

internal sealed class AddCommand : RemoteCommand
{
    private readonly Argument<string> _machine = ReferenceArguments.Machine();
    private readonly Option<string> _needs = NeededMachine.Option();

    public AddCommand(CliContext context)
        : base("add", "Say that a virtual machine needs another: a recovery starts it only when that one is ready", context)
    {
        Add(_machine);
        Add(_needs);
    }

    protected override async Task<int> RunAsync(ParseResult parse, ControllerConnection controller, Report report, CancellationToken cancellationToken)
    {
        var request = new AddDependencyRequest { Vm = parse.GetRequiredValue(_machine), Needs = parse.GetRequiredValue(_needs) };
        var response = await controller.CallAsync(controller.Recovery.AddDependencyAsync(request, cancellationToken: cancellationToken), cancellationToken, NextSteps.ShowDependencies);
        report.Write(DependencyView.Of(response.Machine), DependencyTables.WriteOne);
        return ExitCode.Succeeded;
    }
}
