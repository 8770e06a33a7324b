using System.CommandLine;
using VirtBackup.Cli.Connection;
using VirtBackup.Cli.Output;
using VirtBackup.Cli.Views;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Commands.Retention;

internal sealed class ShowCommand : RemoteCommand
{
    private readonly Argument<string> _ruleSet = ReferenceArguments.RuleSet();

    public ShowCommand(CliContext context)
        : base("show", "Show one rule set and the machines that have it", context) => Add(_ruleSet);

    protected override async Task<int> RunAsync(ParseResult parse, ControllerConnection controller, Report report, CancellationToken cancellationToken)
    {
        var response = await controller.CallAsync(
            controller.Retention.GetRuleSetAsync(new GetRuleSetRequest { Name = parse.GetRequiredValue(_ruleSet) }, cancellationToken: cancellationToken),
            cancellationToken, NextSteps.ListRuleSets);
        var view = new { RuleSet = RuleSetView.Of(response.RuleSet), VirtualMachines = response.VirtualMachines.ToList() };
        report.Write(view, static (console, shown) => RetentionTables.WriteOne(console, shown.RuleSet, shown.VirtualMachines));
        return ExitCode.Succeeded;
    }
}
