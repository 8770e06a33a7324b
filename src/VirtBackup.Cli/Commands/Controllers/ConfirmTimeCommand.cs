using System.CommandLine;
using Google.Protobuf.WellKnownTypes;
using Spectre.Console;
using VirtBackup.Cli.Connection;
using VirtBackup.Cli.Output;
using VirtBackup.Cli.Views;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Commands.Controllers;

internal sealed class ConfirmTimeCommand(CliContext context) : RemoteCommand(
    "confirm-time", "After the controller's clock jumped ahead: confirm its time with this host's clock, so that recovery points expire again", context)
{
    protected override async Task<int> RunAsync(ParseResult parse, ControllerConnection controller, Report report, CancellationToken cancellationToken)
    {
        var request = new ConfirmTimeRequest { OperatorTime = Timestamp.FromDateTimeOffset(Context.Time.GetUtcNow()) };
        var response = await controller.CallAsync(
            controller.Retention.ConfirmTimeAsync(request, cancellationToken: cancellationToken), cancellationToken, "set the clock that is wrong, on the controller's host or here");
        report.Write(new { Time = WireNames.Of(response.Time) }, static (console, confirmed) =>
        {
            console.Write(TextLayout.Cell($"The time is confirmed: {Units.Time(confirmed.Time)}."));
            console.WriteLine();
        });
        return ExitCode.Succeeded;
    }
}
