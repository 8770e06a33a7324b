using System.CommandLine;
using VirtBackup.Protocol.Common.V1;

namespace VirtBackup.Cli.Commands.Restores;

/// <summary>The options of a restore, for running and for checking one.</summary>
internal sealed class RestoreChoices
{
    private readonly Option<string> _folder = new("--folder")
    {
        Description = "Where the restored machine goes: an absolute path on the agent's host that does not hold anything yet", HelpName = "DIR", Required = true,
    };

    private readonly Option<string?> _name = new("--name") { Description = "Name of the restored machine [default: as it was]", HelpName = "NAME" };

    private readonly Option<bool> _keepIdentity = new("--keep-identity")
    {
        Description = "Keep UUID and MAC addresses: for a machine that replaces the original, never beside it",
    };

    private readonly Option<bool> _noStart = new("--no-start") { Description = "Do not start the restored machine" };

    private readonly Option<string?> _format = new("--format") { Description = "Format of the new disk images [default: as it was]", HelpName = "raw|qcow2" };

    private readonly Option<string?> _preallocation = new("--preallocation")
    {
        Description = "How much of the new images is reserved at once [default: none]", HelpName = "none|metadata|full",
    };

    private readonly Option<string?> _agent = new("--agent") { Description = "Restore on this agent's host [default: the one that has the machine]", HelpName = "NAME" };

    public RestoreChoices()
    {
        _format.AcceptOnlyFromAmong("raw", "qcow2");
        _preallocation.AcceptOnlyFromAmong("none", "metadata", "full");
        _folder.Validators.Add(static result =>
        {
            if (result.Tokens is [{ Value: var folder }] && !folder.StartsWith('/') && !Path.IsPathFullyQualified(folder))
            {
                result.AddError($"--folder must be an absolute path on the agent's host; '{folder}' is not.");
            }
        });
    }

    public void AddTo(Command command)
    {
        command.Add(_folder);
        command.Add(_agent);
        command.Add(_name);
        command.Add(_keepIdentity);
        command.Add(_noStart);
        command.Add(_format);
        command.Add(_preallocation);
    }

    public string ReadAgent(ParseResult parse) => parse.GetValue(_agent) ?? "";

    public RestoreOptions Read(ParseResult parse) => new()
    {
        Folder = parse.GetRequiredValue(_folder),
        Name = parse.GetValue(_name) ?? "",
        KeepIdentity = parse.GetValue(_keepIdentity),
        Start = !parse.GetValue(_noStart),
        Format = parse.GetValue(_format) ?? "",
        Preallocation = parse.GetValue(_preallocation) switch
        {
            "metadata" => Preallocation.Metadata,
            "full" => Preallocation.Full,
            _ => Preallocation.None,
        },
    };
}
