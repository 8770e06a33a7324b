using System.CommandLine;
using Spectre.Console;
using VirtBackup.Cli.Connection;
using VirtBackup.Cli.Output;
using VirtBackup.Cli.Views;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Commands.Retention;

internal sealed class SetCommand : RemoteCommand
{
    private readonly Argument<string> _ruleSet = ReferenceArguments.RuleSet();
    private readonly RuleChoices _rules = new();
    private readonly Option<bool> _default = new("--default") { Description = "Make it the rule set of all machines without one of their own" };
    private readonly Option<bool> _noDefault = new("--no-default") { Description = "Make it no longer the default" };
    private readonly Option<bool> _everything = new("--everything") { Description = "No rules: keep everything, also where another rule set is the default" };

    public SetCommand(CliContext context)
        : base("set", "Make a rule set, or replace the rules of one; what no rule keeps goes within an hour", context)
    {
        Add(_ruleSet);
        _rules.AddTo(this);
        Add(_everything);
        Add(_default);
        Add(_noDefault);
    }

    protected override async Task<int> RunAsync(ParseResult parse, ControllerConnection controller, Report report, CancellationToken cancellationToken)
    {
        var rules = _rules.Read(parse);
        if (RuleChoices.IsEmpty(rules) != parse.GetValue(_everything))
        {
            throw CommandFault.Usage("Say what the rule set keeps: either rules, such as --daily 7, or --everything.", "virtbackup retention set --help");
        }
        if (parse.GetValue(_default) && parse.GetValue(_noDefault))
        {
            throw CommandFault.Usage("--default and --no-default exclude each other.");
        }
        var request = new SetRuleSetRequest
        {
            Name = parse.GetRequiredValue(_ruleSet),
            Rules = rules,
            Default = parse.GetValue(_default) ? SetRuleSetRequest.Types.Default.Yes : parse.GetValue(_noDefault) ? SetRuleSetRequest.Types.Default.No : SetRuleSetRequest.Types.Default.Unspecified,
        };
        var response = await controller.CallAsync(
            controller.Retention.SetRuleSetAsync(request, cancellationToken: cancellationToken), cancellationToken, NextSteps.ListRuleSets);
        report.Write(RuleSetView.Of(response.RuleSet), static (console, set) =>
        {
            console.Write(TextLayout.Cell($"The rule set '{set.Name}' keeps: {set.Rules.Text}."));
            console.WriteLine();
            console.Write(TextLayout.Cell(set is { IsDefault: false, VirtualMachines: 0 }
                ? $"It governs no machine yet: virtbackup retention attach {set.Name} VM"
                : "What goes, and when: virtbackup retention simulate VM"));
            console.WriteLine();
        });
        return ExitCode.Succeeded;
    }
}
