using System.CommandLine;
using VirtBackup.Cli.Connection;
using VirtBackup.Cli.Views;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Commands.Restores;

internal sealed class PlanCommand : JobCommand
{
    private readonly Argument<string> _point = ReferenceArguments.Point();
    private readonly RestoreChoices _choices = new();

    public PlanCommand(CliContext context)
        : base("plan", "Compare a recovery point with a host; nothing is written", context)
    {
        Add(_point);
        _choices.AddTo(this);
    }

    protected override async Task<Job> StartAsync(ParseResult parse, ControllerConnection controller, CancellationToken cancellationToken)
    {
        var request = new StartRestoreCheckRequest { Point = parse.GetRequiredValue(_point), Agent = _choices.ReadAgent(parse), Options = _choices.Read(parse) };
        return (await controller.CallAsync(controller.Admin.StartRestoreCheckAsync(request, cancellationToken: cancellationToken), cancellationToken, NextSteps.ListPoints)).Job;
    }

    protected override int Judge(ResultView? result) => result?.RestoreCheck is { Possible: false } ? ExitCode.Refused : ExitCode.Succeeded;
}
