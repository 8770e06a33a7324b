using System.CommandLine;
using VirtBackup.Cli.Commands.Backups;
using VirtBackup.Cli.Connection;
using VirtBackup.Core;
using VirtBackup.Protocol.Admin.V1;
using VirtBackup.Protocol.Common.V1;

namespace VirtBackup.Cli.Commands.Groups;

internal sealed class BackupCommand : JobCommand
{
    private readonly Argument<string> _group = ReferenceArguments.Group();
    private readonly Option<bool> _full = new("--full") { Description = "Read every disk whole, whatever change tracking says" };
    private readonly StateChoice _state = new();
    private readonly Option<bool> _noQuiesce = new("--no-quiesce") { Description = "Do not ask the guests to flush and freeze their file systems; they are paused all the same" };

    private readonly Option<ulong> _rate = new("--rate-limit")
    {
        Description = "Read at most this much per second of each machine, such as 50MiB", HelpName = "BYTES", CustomParser = static result => ByteCount.Parse(result),
    };

    public BackupCommand(CliContext context)
        : base("backup", "Cut all machines of a group at one instant, back them up, and watch it; Ctrl-C stops watching and lets the job go on", context)
    {
        Add(_group);
        Add(_full);
        Add(_noQuiesce);
        _state.AddTo(this);
        Add(_rate);
    }

    protected override async Task<Job> StartAsync(ParseResult parse, ControllerConnection controller, CancellationToken cancellationToken)
    {
        var request = new StartGroupBackupRequest
        {
            RequestId = Id16.Create(Context.Entropy).ToString(),
            Name = parse.GetRequiredValue(_group),
            Options = new BackupOptions { Full = parse.GetValue(_full), SkipQuiesce = parse.GetValue(_noQuiesce), ReadBytesPerSecondMax = parse.GetValue(_rate), State = _state.Read(parse) },
        };
        return (await controller.CallAsync(controller.Groups.StartGroupBackupAsync(request, cancellationToken: cancellationToken), cancellationToken, NextSteps.ListGroups)).Job;
    }
}
