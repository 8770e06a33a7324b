using System.CommandLine;
using VirtBackup.Cli.Connection;
using VirtBackup.Cli.Views;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Commands.Restores;

internal sealed class PlanCommand : JobCommand
{
    private readonly Argument<string> _point = ReferenceArguments.Point();
    private readonly RestoreChoices _choices = new();

    private readonly Option<bool> _noMeasurement = new("--no-measurement")
    {
        Description = "Do not measure the path, for which a few MiB are written to the target and removed at once: the estimate is a wider one",
    };

    public PlanCommand(CliContext context)
        : base("plan", "Compare a recovery point with a host, and say how long the restore would take; nothing is left there", context)
    {
        Add(_point);
        _choices.AddTo(this);
        Add(_noMeasurement);
    }

    protected override async Task<Job> StartAsync(ParseResult parse, ControllerConnection controller, CancellationToken cancellationToken)
    {
        var request = new StartRestoreCheckRequest { Point = parse.GetRequiredValue(_point), Agent = _choices.ReadAgent(parse), Options = _choices.Read(parse) };
        request.Options.SkipSample = parse.GetValue(_noMeasurement);
        return (await controller.CallAsync(controller.Admin.StartRestoreCheckAsync(request, cancellationToken: cancellationToken), cancellationToken, NextSteps.ListPoints)).Job;
    }

    protected override int Judge(ResultView? result) => result?.RestoreCheck is { Possible: false } ? ExitCode.Refused : ExitCode.Succeeded;
}
