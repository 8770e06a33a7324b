using System.CommandLine;
using VirtBackup.Cli.Connection;
using VirtBackup.Cli.Views;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Commands.Repositories;

internal sealed class GarbageCollectCommand : JobCommand
{
    private readonly Option<bool> _dryRun = new("--dry-run") { Description = "Count what could go now and change nothing" };
    private readonly Option<bool> _audit = new("--audit") { Description = "Recount all references from the manifests first, whether or not it is due" };
    private readonly Option<ulong> _rate = new("--rate-limit")
    {
        Description = "Read at most so much per second when packs are written anew (such as 50MiB); 0: no limit", HelpName = "BYTES", CustomParser = static result => ByteCount.Parse(result),
    };

    public GarbageCollectCommand(CliContext context)
        : base("gc", "Collect now what no recovery point needs, instead of within some hours", context)
    {
        Add(_dryRun);
        Add(_audit);
        Add(_rate);
    }

    protected override async Task<Job> StartAsync(ParseResult parse, ControllerConnection controller, CancellationToken cancellationToken)
    {
        var request = new StartCollectionRequest { DryRun = parse.GetValue(_dryRun), Audit = parse.GetValue(_audit), ReadBytesPerSecondMax = parse.GetValue(_rate) };
        return (await controller.CallAsync(controller.Admin.StartCollectionAsync(request, cancellationToken: cancellationToken), cancellationToken)).Job;
    }

    protected override int Judge(ResultView? result) => result?.Collection is { Problems.Count: > 0 } ? ExitCode.Damaged : ExitCode.Succeeded;
}
