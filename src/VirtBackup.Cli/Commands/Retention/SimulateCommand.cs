using System.CommandLine;
using VirtBackup.Cli.Connection;
using VirtBackup.Cli.Output;
using VirtBackup.Cli.Views;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Commands.Retention;

internal sealed class SimulateCommand : RemoteCommand
{
    private readonly Argument<string> _machine = ReferenceArguments.Machine();
    private readonly Option<string?> _ruleSet = new("--rule-set") { Description = "Rules of this set [default: what governs the machine]", HelpName = "RULE-SET" };
    private readonly RuleChoices _rules = new();

    private readonly Option<TimeSpan?> _interval = new("--interval")
    {
        Description = "A further point after each such time: 1h or 1d [default: as in the past]", HelpName = "TIME", CustomParser = Durations.Parse,
    };

    private readonly Option<bool> _noFurther = new("--no-further-points") { Description = "No further points are made" };
    private readonly Option<bool> _verified = new("--verified") { Description = "Further points are verified; else the last verified point stays for ever" };

    private readonly Option<TimeSpan?> _horizon = new("--for")
    {
        Description = "How far to look: 90d [default: ten years]", HelpName = "TIME", CustomParser = Durations.Parse,
    };

    public SimulateCommand(CliContext context)
        : base("simulate", "Show which recovery points of a machine go, and when; changes nothing", context)
    {
        Add(_machine);
        Add(_ruleSet);
        _rules.AddTo(this);
        Add(_interval);
        Add(_noFurther);
        Add(_verified);
        Add(_horizon);
    }

    protected override async Task<int> RunAsync(ParseResult parse, ControllerConnection controller, Report report, CancellationToken cancellationToken)
    {
        var rules = _rules.Read(parse);
        var ruleSet = parse.GetValue(_ruleSet) ?? "";
        if (ruleSet.Length > 0 && !RuleChoices.IsEmpty(rules))
        {
            throw CommandFault.Usage("--rule-set and rules exclude each other.");
        }
        if (parse.GetValue(_interval) is not null && parse.GetValue(_noFurther))
        {
            throw CommandFault.Usage("--interval and --no-further-points exclude each other.");
        }
        var request = new SimulateRetentionRequest
        {
            Vm = parse.GetRequiredValue(_machine),
            RuleSet = ruleSet,
            Rules = RuleChoices.IsEmpty(rules) ? null : rules,
            IntervalMinutes = (uint)(parse.GetValue(_interval) ?? TimeSpan.Zero).TotalMinutes,
            NoFurtherPoints = parse.GetValue(_noFurther),
            FurtherAreVerified = parse.GetValue(_verified),
            Days = (uint)Math.Ceiling((parse.GetValue(_horizon) ?? TimeSpan.Zero).TotalDays),
        };
        var response = await controller.CallAsync(
            controller.Retention.SimulateRetentionAsync(request, cancellationToken: cancellationToken),
            cancellationToken, ruleSet.Length > 0 ? NextSteps.ListRuleSets : NextSteps.ListMachines);
        report.Write(SimulationView.Of(response), RetentionTables.WriteSimulation);
        return ExitCode.Succeeded;
    }
}
