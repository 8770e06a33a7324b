using System.CommandLine;
using VirtBackup.Cli.Connection;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Commands.Migrations;

internal sealed class RemoveSourceCommand : JobCommand
{
    private readonly Argument<string> _migration = ReferenceArguments.Job();
    private readonly Option<bool> _yes = new("--yes", "-y") { Description = "Do not ask" };

    public RemoveSourceCommand(CliContext context)
        : base("remove-source", "Delete the old copy that a migration left out of use on the source host", context)
    {
        Add(_migration);
        Add(_yes);
    }

    protected override async Task<Job> StartAsync(ParseResult parse, ControllerConnection controller, CancellationToken cancellationToken)
    {
        var migration = parse.GetRequiredValue(_migration);
        if (!parse.GetValue(_yes))
        {
            Confirmation.Require(Context, $"The copy that migration {migration} left on its source host is deleted.", "add --yes");
        }
        var request = new RemoveMigratedSourceRequest { MigrationId = migration };
        return (await controller.CallAsync(controller.Migrations.RemoveMigratedSourceAsync(request, cancellationToken: cancellationToken), cancellationToken, "virtbackup migrate list")).Job;
    }
}
