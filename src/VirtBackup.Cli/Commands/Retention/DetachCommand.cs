using System.CommandLine;
using VirtBackup.Cli.Connection;
using VirtBackup.Cli.Output;
using VirtBackup.Cli.Views;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Commands.Retention;

internal sealed class DetachCommand : RemoteCommand
{
    private readonly Argument<string> _machine = ReferenceArguments.Machine();

    public DetachCommand(CliContext context)
        : base("detach", "Take a virtual machine's own rule set away; the default governs it then", context) => Add(_machine);

    protected override async Task<int> RunAsync(ParseResult parse, ControllerConnection controller, Report report, CancellationToken cancellationToken)
    {
        var response = await controller.CallAsync(
            controller.Retention.DetachRuleSetAsync(new DetachRuleSetRequest { Vm = parse.GetRequiredValue(_machine) }, cancellationToken: cancellationToken),
            cancellationToken, NextSteps.ListMachines);
        report.Write(new GovernedView(response.VmName, MachineRetentionView.Of(response.Retention)), RetentionTables.WriteGoverned);
        return ExitCode.Succeeded;
    }
}
