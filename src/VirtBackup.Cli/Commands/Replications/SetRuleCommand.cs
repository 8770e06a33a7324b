using System.CommandLine;
using Spectre.Console;
using VirtBackup.Cli.Connection;
using VirtBackup.Cli.Output;
using VirtBackup.Cli.Views;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Commands.Replications;

internal sealed class SetRuleCommand : RemoteCommand
{
    private const int MinutesMax = 525_600;

    private readonly Argument<string> _peer = ReferenceArguments.Peer();
    private readonly Option<bool> _continuous = new("--continuous") { Description = "Pull a recovery point as soon as it is there" };
    private readonly Option<TimeSpan?> _every = new("--every") { Description = "Pull at this interval: 30m, 12h or 1d; at most 365d", HelpName = "TIME", CustomParser = Durations.Parse };

    private readonly Option<string[]> _machines = new("--vm")
    {
        Description = "Only this machine, by its name or id at the other site; may be given again [default: all that it lets this site read]", HelpName = "NAME",
    };

    private readonly Option<int> _streams = new("--streams")
    {
        Description = "So many streams side by side, 1 to 16: more for long fat links", HelpName = "N",
        CustomParser = static result => BoundedNumber.Parse(result, "--streams", 16), DefaultValueFactory = static _ => 4,
    };

    private readonly Option<ulong> _rate = new("--rate-limit")
    {
        Description = "Pull at most so much per second (such as 50MiB), outside of --rate-window", HelpName = "BYTES", CustomParser = static result => ByteCount.Parse(result),
    };

    private readonly Option<RateWindow[]> _windows = new("--rate-window")
    {
        Description = "Another limit at a time of day, UTC: mon-fri@08:00-18:00=20MiB or 22:00-06:00=none; may be given again, the first that fits counts",
        HelpName = RateWindows.Form, CustomParser = RateWindows.Parse, AllowMultipleArgumentsPerToken = false,
    };

    private readonly Option<string?> _ruleSet = new("--rule-set") { Description = "Keep what arrives by this rule set of here [default: as any machine here]", HelpName = "NAME" };

    private readonly Option<TimeSpan?> _lock = new("--lock-for")
    {
        Description = "Lock each recovery point here for so long from when it arrives: 30d; nobody can forget it before", HelpName = "TIME", CustomParser = Durations.Parse,
    };

    private readonly Option<bool> _paused = new("--paused") { Description = "Start nothing by itself for now" };

    public SetRuleCommand(CliContext context)
        : base("set", "Say what is pulled from a peer, in place of what was", context)
    {
        foreach (var option in new Option[] { _continuous, _every, _machines, _streams, _rate, _windows, _ruleSet, _lock, _paused })
        {
            Add(option);
        }
        Add(_peer);
        Validators.Add(result =>
        {
            if (result.GetValue(_continuous) == result.GetResult(_every) is not null)
            {
                result.AddError("Say when to pull, by exactly one of --continuous and --every TIME.");
            }
        });
    }

    protected override async Task<int> RunAsync(ParseResult parse, ControllerConnection controller, Report report, CancellationToken cancellationToken)
    {
        var every = parse.GetValue(_every) is { } span ? (int)span.TotalMinutes : 0;
        if (every > MinutesMax)
        {
            throw CommandFault.Usage("--every is at most 365d.");
        }
        var rule = new ReplicationRule
        {
            Peer = parse.GetRequiredValue(_peer), EveryMinutes = (uint)every, Paused = parse.GetValue(_paused), Streams = (uint)parse.GetValue(_streams),
            BytesPerSecondMax = parse.GetValue(_rate), RuleSet = parse.GetValue(_ruleSet) ?? "", LockDays = (uint)Math.Ceiling((parse.GetValue(_lock) ?? TimeSpan.Zero).TotalDays),
            Vms = { parse.GetValue(_machines) ?? [] }, Windows = { parse.GetValue(_windows) ?? [] },
        };
        var response = await controller.CallAsync(
            controller.Replication.SetReplicationRuleAsync(new SetReplicationRuleRequest { Rule = rule }, cancellationToken: cancellationToken), cancellationToken,
            rule.RuleSet.Length > 0 ? $"{NextSteps.ListPeers}; {NextSteps.ListRuleSets}" : NextSteps.ListPeers);
        report.Write(ReplicationRuleView.Of(response.Rule), static (console, set) =>
        {
            ReplicationTables.WriteRule(console, set);
            console.WriteLine();
            console.Write(TextLayout.Cell(set.Paused ? $"It is paused. Pull now: virtbackup replication run {set.Peer}" : $"How far it is: virtbackup replication status {set.Peer}"));
            console.WriteLine();
        });
        return ExitCode.Succeeded;
    }
}
