using System.CommandLine;
using VirtBackup.Cli.Connection;
using VirtBackup.Cli.Views;
using VirtBackup.Core;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Commands.Migrations;

internal sealed class RunCommand : JobCommand
{
    private readonly Argument<string> _machine = ReferenceArguments.Machine();
    private readonly MigrationChoices _choices = new();
    private readonly Option<bool> _dryRun = new("--dry-run") { Description = "Only plan: as 'migrate plan'" };
    private readonly Option<bool> _yes = new("--yes", "-y") { Description = "Do not ask before the old copy is deleted (--remove-source)" };

    public RunCommand(CliContext context)
        : base("run", "Move a machine to another host, or its disks to another storage, and watch it; on any failure it stays where it is", context)
    {
        Add(_machine);
        _choices.AddTo(this);
        Add(_dryRun);
        Add(_yes);
    }

    protected override async Task<Job> StartAsync(ParseResult parse, ControllerConnection controller, CancellationToken cancellationToken)
    {
        var options = _choices.Read(parse);
        var machine = parse.GetRequiredValue(_machine);
        if (parse.GetValue(_dryRun))
        {
            var plan = new StartMigrationPlanRequest { Vm = machine, Options = options };
            return (await controller.CallAsync(controller.Migrations.StartMigrationPlanAsync(plan, cancellationToken: cancellationToken), cancellationToken, NextSteps.ListMachines)).Job;
        }
        if (_choices.RemovesSource(parse) && !parse.GetValue(_yes))
        {
            Confirmation.Require(Context, $"The old copy of {machine} is deleted when it runs in its new place.", "leave --remove-source out, or add --yes");
        }
        var request = new StartMigrationRequest { RequestId = Id16.Create(Context.Entropy).ToString(), Vm = machine, Options = options };
        return (await controller.CallAsync(controller.Migrations.StartMigrationAsync(request, cancellationToken: cancellationToken), cancellationToken, NextSteps.ListMachines)).Job;
    }

    protected override int Judge(ResultView? result) => result?.MigrationPlan is { Possible: false } ? ExitCode.Refused : ExitCode.Succeeded;
}
