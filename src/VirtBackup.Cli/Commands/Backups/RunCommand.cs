using System.CommandLine;
using VirtBackup.Cli.Connection;
using VirtBackup.Core;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Commands.Backups;

internal sealed class RunCommand : JobCommand
{
    private readonly Argument<string> _machine = ReferenceArguments.Machine();
    private readonly BackupChoices _choices = new();

    public RunCommand(CliContext context)
        : base("run", "Back up a virtual machine now, and watch it; Ctrl-C stops watching and lets the job go on", context)
    {
        Add(_machine);
        _choices.AddTo(this);
    }

    protected override async Task<Job> StartAsync(ParseResult parse, ControllerConnection controller, CancellationToken cancellationToken)
    {
        var request = new StartBackupRequest
        {
            RequestId = Id16.Create(Context.Entropy).ToString(),
            Vm = parse.GetRequiredValue(_machine),
            Options = _choices.Read(parse),
        };
        return (await controller.CallAsync(controller.Admin.StartBackupAsync(request, cancellationToken: cancellationToken), cancellationToken, NextSteps.ListMachines)).Job;
    }
}
