using System.CommandLine;
using VirtBackup.Cli.Connection;
using VirtBackup.Cli.Output;
using VirtBackup.Cli.Views;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Commands.Retention;

internal sealed class AttachCommand : RemoteCommand
{
    private readonly Argument<string> _ruleSet = ReferenceArguments.RuleSet();
    private readonly Argument<string> _machine = ReferenceArguments.Machine();

    public AttachCommand(CliContext context)
        : base("attach", "Give a virtual machine a rule set of its own", context)
    {
        Add(_ruleSet);
        Add(_machine);
    }

    protected override async Task<int> RunAsync(ParseResult parse, ControllerConnection controller, Report report, CancellationToken cancellationToken)
    {
        var request = new AttachRuleSetRequest { RuleSet = parse.GetRequiredValue(_ruleSet), Vm = parse.GetRequiredValue(_machine) };
        var response = await controller.CallAsync(
            controller.Retention.AttachRuleSetAsync(request, cancellationToken: cancellationToken), cancellationToken, NextSteps.ListRuleSets);
        report.Write(new GovernedView(response.VmName, MachineRetentionView.Of(response.Retention)), RetentionTables.WriteGoverned);
        return ExitCode.Succeeded;
    }
}
