using System.CommandLine;
using VirtBackup.Cli.Connection;
using VirtBackup.Cli.Views;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Commands.Migrations;

internal sealed class PlanCommand : JobCommand
{
    private readonly Argument<string> _machine = ReferenceArguments.Machine();
    private readonly MigrationChoices _choices = new();

    public PlanCommand(CliContext context)
        : base("plan", "Compare a machine with the place where it is to go, and say how long the move and the interruption would take; nothing is moved", context)
    {
        Add(_machine);
        _choices.AddTo(this);
    }

    protected override async Task<Job> StartAsync(ParseResult parse, ControllerConnection controller, CancellationToken cancellationToken)
    {
        var request = new StartMigrationPlanRequest { Vm = parse.GetRequiredValue(_machine), Options = _choices.Read(parse) };
        return (await controller.CallAsync(controller.Migrations.StartMigrationPlanAsync(request, cancellationToken: cancellationToken), cancellationToken, NextSteps.ListMachines)).Job;
    }

    protected override int Judge(ResultView? result) => result?.MigrationPlan is { Possible: false } ? ExitCode.Refused : ExitCode.Succeeded;
}
