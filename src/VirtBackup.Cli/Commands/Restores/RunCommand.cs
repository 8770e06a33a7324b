using System.CommandLine;
using VirtBackup.Cli.Connection;
using VirtBackup.Core;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Commands.Restores;

internal sealed class RunCommand : JobCommand
{
    private readonly Argument<string> _point = ReferenceArguments.Point();
    private readonly RestoreChoices _choices = new();

    public RunCommand(CliContext context)
        : base("run", "Restore a virtual machine, or single disks of it, from a recovery point, and watch it", context)
    {
        Add(_point);
        _choices.AddTo(this);
    }

    protected override async Task<Job> StartAsync(ParseResult parse, ControllerConnection controller, CancellationToken cancellationToken)
    {
        var request = new StartRestoreRequest
        {
            RequestId = Id16.Create(Context.Entropy).ToString(),
            Point = parse.GetRequiredValue(_point),
            Agent = _choices.ReadAgent(parse),
            Options = _choices.Read(parse),
        };
        return (await controller.CallAsync(controller.Admin.StartRestoreAsync(request, cancellationToken: cancellationToken), cancellationToken, NextSteps.ListPoints)).Job;
    }
}
