using System.CommandLine;
using VirtBackup.Cli.Connection;
using VirtBackup.Cli.Views;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Commands.Retention;

internal sealed class ApplyCommand : JobCommand
{
    private readonly Option<string?> _machine = new("--vm") { Description = "Only points of this virtual machine", HelpName = "VM" };

    public ApplyCommand(CliContext context)
        : base("apply", "Forget now what the rules let go, instead of within the hour", context) => Add(_machine);

    protected override async Task<Job> StartAsync(ParseResult parse, ControllerConnection controller, CancellationToken cancellationToken)
    {
        var request = new StartRetentionRequest { Vm = parse.GetValue(_machine) ?? "" };
        return (await controller.CallAsync(
            controller.Retention.StartRetentionAsync(request, cancellationToken: cancellationToken), cancellationToken, NextSteps.ListMachines)).Job;
    }

    protected override int Judge(ResultView? result) => result?.Retention is { FailedTotal: > 0 } ? ExitCode.Failed : ExitCode.Succeeded;
}
