using System.CommandLine;
using VirtBackup.Cli.Connection;
using VirtBackup.Cli.Output;
using VirtBackup.Cli.Views;

namespace VirtBackup.Cli.Commands.Migrations;

internal sealed class ListCommand : RemoteCommand
{
    private const int CountMax = 1000;

    private readonly Option<string?> _machine = new("--vm") { Description = "Only migrations of this virtual machine", HelpName = "VM" };

    public ListCommand(CliContext context)
        : base("list", "List migrations, newest first", context) => Add(_machine);

    protected override async Task<int> RunAsync(ParseResult parse, ControllerConnection controller, Report report, CancellationToken cancellationToken)
    {
        var migrations = await controller.ListMigrationsAsync(parse.GetValue(_machine) ?? "", CountMax, cancellationToken);
        report.Write(new { Migrations = migrations.ConvertAll(MigrationView.Of) }, static (console, list) => MigrationTables.WriteList(console, list.Migrations));
        return ExitCode.Succeeded;
    }
}
