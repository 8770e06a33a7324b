using System.CommandLine;
using Spectre.Console;
using VirtBackup.Cli.Connection;
using VirtBackup.Cli.Output;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Commands.Copies;

internal sealed class RemoveCommand : RemoteCommand
{
    private readonly Argument<string> _policy = ReferenceArguments.CopyPolicy();

    public RemoveCommand(CliContext context)
        : base("remove", "Remove a policy; copies and locks stay as they are", context) => Add(_policy);

    protected override async Task<int> RunAsync(ParseResult parse, ControllerConnection controller, Report report, CancellationToken cancellationToken)
    {
        var name = parse.GetRequiredValue(_policy);
        await controller.CallAsync(
            controller.Copies.RemoveCopyPolicyAsync(new RemoveCopyPolicyRequest { Name = name }, cancellationToken: cancellationToken), cancellationToken, NextSteps.ListCopyPolicies);
        report.Write(new { Removed = name }, static (console, done) =>
        {
            console.Write(TextLayout.Cell($"The policy '{done.Removed}' is removed. What was copied stays until the repository forgets it."));
            console.WriteLine();
        });
        return ExitCode.Succeeded;
    }
}
