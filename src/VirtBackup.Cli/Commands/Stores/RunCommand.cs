using System.CommandLine;
using VirtBackup.Cli.Connection;
using VirtBackup.Cli.Views;
using VirtBackup.Core;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Commands.Stores;

internal sealed class RunCommand : JobCommand
{
    private readonly Argument<string> _store = ReferenceArguments.CopyStore();

    public RunCommand(CliContext context)
        : base("run", "Copy now what the policies want there, and watch it; it happens by itself, too, after every backup", context) => Add(_store);

    protected override async Task<Job> StartAsync(ParseResult parse, ControllerConnection controller, CancellationToken cancellationToken)
    {
        var request = new StartCopyRequest { RequestId = Id16.Create(Context.Entropy).ToString(), Store = parse.GetRequiredValue(_store) };
        return (await controller.CallAsync(controller.Copies.StartCopyAsync(request, cancellationToken: cancellationToken), cancellationToken, NextSteps.ListCopyStores)).Job;
    }

    protected override int Judge(ResultView? result) => result?.Copy is { PointsRefused: > 0 } ? ExitCode.Partial : ExitCode.Succeeded;
}
