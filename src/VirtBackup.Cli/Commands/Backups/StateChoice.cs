using System.CommandLine;
using VirtBackup.Protocol.Common.V1;

namespace VirtBackup.Cli.Commands.Backups;

/// <summary>Whether memory and processors are captured, too.</summary>
internal sealed class StateChoice
{
    private readonly Option<bool> _withState = new("--with-state")
    {
        Description = "Capture memory and processors at the same instant, so that a restore can go on from there; the guest is not frozen then",
    };

    private readonly Option<string?> _state = new("--state")
    {
        Description = "With state: 'live' lets the guest go on at once; 'stop' has it stand still until its memory is saved, where live cannot be done [default: live]",
        HelpName = "live|stop",
    };

    public StateChoice() => _state.AcceptOnlyFromAmong("live", "stop");

    public void AddTo(Command command)
    {
        command.Add(_withState);
        command.Add(_state);
    }

    public StateCapture Read(ParseResult parse) => parse.GetValue(_state) switch
    {
        "stop" => StateCapture.Stopped,
        null when !parse.GetValue(_withState) => StateCapture.Unspecified,
        _ => StateCapture.Live,
    };
}
