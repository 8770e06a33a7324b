using System.CommandLine;
using VirtBackup.Cli.Connection;
using VirtBackup.Cli.Output;
using VirtBackup.Cli.Views;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Commands.Copies;

internal sealed class StatusCommand : RemoteCommand
{
    private readonly Argument<string> _policy = new("policy") { Description = "Name of the policy [default: all]", Arity = ArgumentArity.ZeroOrOne, DefaultValueFactory = static _ => "" };
    private readonly Option<string?> _machine = new("--vm") { Description = "Only this virtual machine", HelpName = "VM" };

    public StatusCommand(CliContext context)
        : base("status", "Show for each machine whether its recovery points are where the policies want them; exit code 7 if anything is overdue", context)
    {
        Add(_policy);
        Add(_machine);
    }

    protected override async Task<int> RunAsync(ParseResult parse, ControllerConnection controller, Report report, CancellationToken cancellationToken)
    {
        var request = new GetCopyStatusRequest { Policy = parse.GetValue(_policy) ?? "", Vm = parse.GetValue(_machine) ?? "" };
        var response = await controller.CallAsync(
            controller.Copies.GetCopyStatusAsync(request, cancellationToken: cancellationToken), cancellationToken, $"{NextSteps.ListCopyPolicies}; {NextSteps.ListMachines}");
        var machines = response.Machines.Select(CopyStatusView.Of).ToList();
        report.Write(new { Machines = machines, response.MachinesTotal }, static (console, list) => CopyTables.WriteStatus(console, list.Machines, list.MachinesTotal));
        // The overdue ones come first: none of them is cut off before the others.
        return machines.Exists(static machine => machine.IsOverdue) ? ExitCode.Partial : ExitCode.Succeeded;
    }
}
