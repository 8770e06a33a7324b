using System.CommandLine;
using VirtBackup.Cli.Connection;
using VirtBackup.Cli.Views;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Commands.Backups;

internal sealed class PlanCommand : JobCommand
{
    private readonly Argument<string> _machine = ReferenceArguments.Machine();
    private readonly BackupChoices _choices = new();

    public PlanCommand(CliContext context)
        : base("plan", "Predict what a backup would read and need, without touching the machine", context)
    {
        Add(_machine);
        _choices.AddTo(this);
    }

    protected override async Task<Job> StartAsync(ParseResult parse, ControllerConnection controller, CancellationToken cancellationToken)
    {
        var request = new StartBackupPlanRequest { Vm = parse.GetRequiredValue(_machine), Options = _choices.Read(parse) };
        return (await controller.CallAsync(controller.Admin.StartBackupPlanAsync(request, cancellationToken: cancellationToken), cancellationToken, NextSteps.ListMachines)).Job;
    }

    protected override async Task<JobView> CompleteAsync(JobView outcome, ControllerConnection controller, CancellationToken cancellationToken) =>
        outcome.Result is { BackupPlan: { } plan } result
            ? outcome with { Result = result with { BackupPlan = plan with { Time = await TimePrediction.MakeAsync(controller, outcome, plan, cancellationToken) } } }
            : outcome;
}
