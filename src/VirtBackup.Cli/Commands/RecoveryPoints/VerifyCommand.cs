using System.CommandLine;
using VirtBackup.Cli.Connection;
using VirtBackup.Cli.Views;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Commands.RecoveryPoints;

internal sealed class VerifyCommand : JobCommand
{
    private readonly Argument<string> _point = ReferenceArguments.Point();
    private readonly Option<bool> _full = new("--full") { Description = "Also decrypt every chunk and compute its name anew, beside checksums and references" };

    public VerifyCommand(CliContext context)
        : base("verify", "Prove that a recovery point is whole: its manifest, keys and map, and the packs in which they and its chunks lie", context)
    {
        Add(_point);
        Add(_full);
    }

    protected override async Task<Job> StartAsync(ParseResult parse, ControllerConnection controller, CancellationToken cancellationToken)
    {
        var request = new StartVerifyRequest { Point = parse.GetRequiredValue(_point), Full = parse.GetValue(_full) };
        return (await controller.CallAsync(controller.Admin.StartVerifyAsync(request, cancellationToken: cancellationToken), cancellationToken, NextSteps.ListPoints)).Job;
    }

    protected override int Judge(ResultView? result) => Repositories.VerifyCommand.Judge(result);
}
