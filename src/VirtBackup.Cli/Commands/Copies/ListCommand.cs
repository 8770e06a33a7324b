using System.CommandLine;
using VirtBackup.Cli.Connection;
using VirtBackup.Cli.Output;
using VirtBackup.Cli.Views;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Commands.Copies;

internal sealed class ListCommand(CliContext context) : RemoteCommand("list", "List policies for copies", context)
{
    protected override async Task<int> RunAsync(ParseResult parse, ControllerConnection controller, Report report, CancellationToken cancellationToken)
    {
        var response = await controller.CallAsync(controller.Copies.ListCopyPoliciesAsync(new ListCopyPoliciesRequest(), cancellationToken: cancellationToken), cancellationToken);
        report.Write(new { Policies = response.Policies.Select(CopyPolicyView.Of).ToList() }, static (console, list) => CopyTables.WritePolicies(console, list.Policies));
        return ExitCode.Succeeded;
    }
}
