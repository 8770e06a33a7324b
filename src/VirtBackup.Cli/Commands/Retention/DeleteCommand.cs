using System.CommandLine;
using Spectre.Console;
using VirtBackup.Cli.Connection;
using VirtBackup.Cli.Output;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Commands.Retention;

internal sealed class DeleteCommand : RemoteCommand
{
    private readonly Argument<string> _ruleSet = ReferenceArguments.RuleSet();

    public DeleteCommand(CliContext context)
        : base("delete", "Delete a rule set that governs no machine", context) => Add(_ruleSet);

    protected override async Task<int> RunAsync(ParseResult parse, ControllerConnection controller, Report report, CancellationToken cancellationToken)
    {
        var name = parse.GetRequiredValue(_ruleSet);
        await controller.CallAsync(
            controller.Retention.DeleteRuleSetAsync(new DeleteRuleSetRequest { Name = name }, cancellationToken: cancellationToken),
            cancellationToken, $"virtbackup retention show {name}");
        report.Write(new { Deleted = name }, static (console, done) =>
        {
            console.Write(TextLayout.Cell($"The rule set '{done.Deleted}' is deleted."));
            console.WriteLine();
        });
        return ExitCode.Succeeded;
    }
}
