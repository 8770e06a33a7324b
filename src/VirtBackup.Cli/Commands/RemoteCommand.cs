using System.CommandLine;
using VirtBackup.Cli.Connection;
using VirtBackup.Cli.Output;

namespace VirtBackup.Cli.Commands;

/// <summary>A verb that asks the controller.</summary>
internal abstract class RemoteCommand(string name, string description, CliContext context) : ProgramCommand(name, description, context)
{
    protected sealed override async Task<int> RunAsync(ParseResult parse, CancellationToken cancellationToken)
    {
        using var controller = ControllerConnection.Open(CredentialFolder.Locate(parse.GetValue(GlobalOptions.Credentials), Context), Context.Time);
        return await RunAsync(parse, controller, ReportFor(parse), cancellationToken);
    }

    protected abstract Task<int> RunAsync(ParseResult parse, ControllerConnection controller, Report report, CancellationToken cancellationToken);
}
