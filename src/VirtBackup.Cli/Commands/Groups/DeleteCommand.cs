using System.CommandLine;
using Spectre.Console;
using VirtBackup.Cli.Connection;
using VirtBackup.Cli.Output;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Commands.Groups;

internal sealed class DeleteCommand : RemoteCommand
{
    private readonly Argument<string> _group = ReferenceArguments.Group();

    public DeleteCommand(CliContext context)
        : base("delete", "Delete a group; its machines and all recovery points stay", context) => Add(_group);

    protected override async Task<int> RunAsync(ParseResult parse, ControllerConnection controller, Report report, CancellationToken cancellationToken)
    {
        var name = parse.GetRequiredValue(_group);
        await controller.CallAsync(
            controller.Groups.DeleteGroupAsync(new DeleteGroupRequest { Name = name }, cancellationToken: cancellationToken), cancellationToken, NextSteps.ListGroups);
        report.Write(new { Deleted = name }, static (console, done) =>
        {
            console.Write(TextLayout.Cell($"The group '{done.Deleted}' is deleted."));
            console.WriteLine();
        });
        return ExitCode.Succeeded;
    }
}
