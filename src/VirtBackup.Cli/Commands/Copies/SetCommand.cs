using System.CommandLine;
using Spectre.Console;
using VirtBackup.Cli.Connection;
using VirtBackup.Cli.Output;
using VirtBackup.Cli.Views;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Commands.Copies;

internal sealed class SetCommand : RemoteCommand
{
    private const string All = "all";
    private const int PlacesMax = 16;

    private readonly Argument<string> _policy = ReferenceArguments.CopyPolicy();

    private readonly Option<string[]> _machines = new("--machines")
    {
        Description = "'all' that are backed up here, or a virtual machine; may be given again", HelpName = "all|VM", Required = true, AllowMultipleArgumentsPerToken = true,
    };

    private readonly Option<int> _copies = Number("--copies", "Places that have each recovery point, the repository among them, 1 to 16", PlacesMax);
    private readonly Option<int> _media = Number("--media", "Kinds of storage among them (folder, s3, azure), 1 to 3", 3);
    private readonly Option<int> _offSite = Number("--offsite", "So many of them at another site: at a peer, or in a copy store that is off-site", PlacesMax);

    private readonly Option<string[]> _at = new("--at")
    {
        Description = "A copy store or a peer that must have them; may be given again [default: every copy store]", HelpName = "STORE|PEER", AllowMultipleArgumentsPerToken = true,
    };

    private readonly Option<int> _lockDays = Number("--lock-days", "Lock each recovery point there until it is so many days old", 3650);
    private readonly Option<string?> _lockedAt = new("--locked-at") { Description = "Where it is to be locked [default: every copy store of the policy]", HelpName = "STORE|PEER" };

    private readonly Option<TimeSpan?> _within = new("--within")
    {
        Description = "So long after it was made: 30m, 12h or 1d, at most 365d [default: 24h]", HelpName = "TIME", CustomParser = Durations.Parse,
    };

    private readonly Option<string?> _ruleSet = new("--rule-set")
    {
        Description = "Keep in the copy stores also what this rule set keeps [default: as long as the repository does]", HelpName = "NAME",
    };

    public SetCommand(CliContext context)
        : base("set", "Say where the recovery points of machines must be; the controller fills copy stores by itself, peers pull by their own rules", context)
    {
        foreach (var option in new Option[] { _machines, _copies, _media, _offSite, _at, _lockDays, _lockedAt, _within, _ruleSet })
        {
            Add(option);
        }
        Add(_policy);
        Validators.Add(result =>
        {
            if (result.GetValue(_machines) is { Length: > 1 } machines && machines.Contains(All))
            {
                result.AddError("--machines is 'all', or names machines.");
            }
        });
    }

    protected override async Task<int> RunAsync(ParseResult parse, ControllerConnection controller, Report report, CancellationToken cancellationToken)
    {
        var machines = parse.GetRequiredValue(_machines);
        var policy = new CopyPolicy
        {
            Name = parse.GetRequiredValue(_policy), AllVms = machines is [All], Copies = (uint)parse.GetValue(_copies), Media = (uint)parse.GetValue(_media),
            OffSite = (uint)parse.GetValue(_offSite), LockDays = (uint)parse.GetValue(_lockDays), LockedAt = parse.GetValue(_lockedAt) ?? "",
            WithinMinutes = (uint)(parse.GetValue(_within) ?? TimeSpan.Zero).TotalMinutes, RuleSet = parse.GetValue(_ruleSet) ?? "", At = { parse.GetValue(_at) ?? [] },
        };
        if (!policy.AllVms)
        {
            policy.Vms.Add(machines.Select(static machine => new CopyMachine { VmName = machine }));
        }
        var response = await controller.CallAsync(
            controller.Copies.SetCopyPolicyAsync(new SetCopyPolicyRequest { Policy = policy }, cancellationToken: cancellationToken), cancellationToken,
            $"{NextSteps.ListMachines}; {NextSteps.ListCopyStores}; {NextSteps.ListPeers}");
        report.Write(CopyPolicyView.Of(response.Policy), static (console, set) =>
        {
            CopyTables.WritePolicy(console, set);
            console.WriteLine();
            console.Write(TextLayout.Cell($"Where it is so, and where not yet: virtbackup copies status {set.Name}"));
            console.WriteLine();
        });
        return ExitCode.Succeeded;
    }

    private static Option<int> Number(string name, string description, int max) =>
        new(name) { Description = description, HelpName = "N", CustomParser = result => BoundedNumber.Parse(result, name, max) };
}
