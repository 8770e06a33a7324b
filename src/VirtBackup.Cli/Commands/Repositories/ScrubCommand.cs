using System.CommandLine;
using VirtBackup.Cli.Connection;
using VirtBackup.Cli.Views;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Commands.Repositories;

internal sealed class ScrubCommand : JobCommand
{
    private readonly Option<ulong> _rate = new("--rate-limit")
    {
        Description = "Read at most so much per second (such as 50MiB); 0: no limit", HelpName = "BYTES", CustomParser = static result => ByteCount.Parse(result),
    };

    public ScrubCommand(CliContext context)
        : base("scrub", "Read all of the repository now, the oldest proof first, and take out of use what is damaged", context) => Add(_rate);

    protected override async Task<Job> StartAsync(ParseResult parse, ControllerConnection controller, CancellationToken cancellationToken)
    {
        var request = new StartScrubRequest { ReadBytesPerSecondMax = parse.GetValue(_rate) };
        return (await controller.CallAsync(controller.Admin.StartScrubAsync(request, cancellationToken: cancellationToken), cancellationToken)).Job;
    }

    protected override int Judge(ResultView? result) => result?.Scrub is { DamagesTotal: > 0 } ? ExitCode.Damaged : ExitCode.Succeeded;
}
