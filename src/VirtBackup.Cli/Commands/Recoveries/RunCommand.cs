using System.CommandLine;
using System.Globalization;
using Google.Protobuf.WellKnownTypes;
using VirtBackup.Cli.Connection;
using VirtBackup.Core;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Commands.Recoveries;

/// <summary>Restores several machines in the order of their dependencies, or says how that would go.</summary>
internal sealed class RunCommand : JobCommand
{
    private readonly Option<string[]> _machines = new("--vm") { Description = "Restore this virtual machine (may be repeated)", HelpName = "VM", DefaultValueFactory = static _ => [] };
    private readonly Option<bool> _all = new("--all") { Description = "Restore every virtual machine that has a recovery point" };

    private readonly Option<DateTimeOffset?> _at = new("--at")
    {
        Description = "From the newest recovery points that are not newer than this, in local time unless it says otherwise: 2031-05-04T03:00 [default: the newest]", HelpName = "TIME",
        CustomParser = static result =>
        {
            var text = result.Tokens is [{ Value: var value }] ? value : "";
            if (DateTimeOffset.TryParse(text, CultureInfo.InvariantCulture, DateTimeStyles.AssumeLocal, out var time))
            {
                return time;
            }
            result.AddError($"'{text}' is not a time: write it like 2031-05-04T03:00 or 2031-05-04T03:00Z.");
            return null;
        },
    };

    private readonly Option<uint> _parallel = new("--parallel") { Description = "Write the disks of, or start, at most so many machines side by side [default: all]", HelpName = "N" };
    private readonly Option<bool> _dryRun = new("--dry-run") { Description = "Only check every restore, and show stages, times and the critical path" };
    private readonly ManyRestoresChoices _choices = new();
    private readonly bool _isPlan;

    public RunCommand(CliContext context, bool isPlan)
        : base(
            isPlan ? "plan" : "run",
            isPlan ? "Show in which stages several virtual machines would be restored and started, how long it would take, and why so long; changes nothing"
                : "Restore several virtual machines, and start each when all that it needs are ready", context)
    {
        _isPlan = isPlan;
        Add(_machines);
        Add(_all);
        Add(_at);
        Add(_parallel);
        if (!isPlan)
        {
            Add(_dryRun);
        }
        _choices.AddTo(this);
        Validators.Add(result =>
        {
            if ((result.GetValue(_machines) is { Length: > 0 }) == result.GetValue(_all))
            {
                result.AddError("Say which machines: either --vm VM, once for each, or --all.");
            }
        });
    }

    protected override async Task<Job> StartAsync(ParseResult parse, ControllerConnection controller, CancellationToken cancellationToken)
    {
        var request = new StartRecoveryRequest
        {
            RequestId = Id16.Create(Context.Entropy).ToString(),
            At = parse.GetValue(_at) is { } at ? Timestamp.FromDateTimeOffset(at) : null,
            Agent = _choices.ReadAgent(parse),
            Parallel = parse.GetValue(_parallel),
            DryRun = _isPlan || parse.GetValue(_dryRun),
            Options = _choices.Read(parse),
        };
        request.Vms.Add(parse.GetValue(_machines) ?? []);
        return (await controller.CallAsync(controller.Recovery.StartRecoveryAsync(request, cancellationToken: cancellationToken), cancellationToken, NextSteps.ShowDependencies)).Job;
    }
}
