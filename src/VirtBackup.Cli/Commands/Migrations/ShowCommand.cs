using System.CommandLine;
using VirtBackup.Cli.Connection;
using VirtBackup.Cli.Output;
using VirtBackup.Cli.Views;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Commands.Migrations;

internal sealed class ShowCommand : RemoteCommand
{
    private readonly Argument<string> _migration = ReferenceArguments.Job();

    public ShowCommand(CliContext context)
        : base("show", "Show one migration: where its copies are, and how it went", context) => Add(_migration);

    protected override async Task<int> RunAsync(ParseResult parse, ControllerConnection controller, Report report, CancellationToken cancellationToken)
    {
        var request = new GetMigrationRequest { MigrationId = parse.GetRequiredValue(_migration) };
        var response = await controller.CallAsync(controller.Migrations.GetMigrationAsync(request, cancellationToken: cancellationToken), cancellationToken, "virtbackup migrate list");
        report.Write(MigrationView.Of(response.Migration), MigrationTables.WriteOne);
        return ExitCode.Succeeded;
    }
}
