using System.CommandLine;
using VirtBackup.Cli.Commands.Restores;
using VirtBackup.Protocol.Common.V1;

namespace VirtBackup.Cli.Commands.Recoveries;

/// <summary>Options that hold for the restores of all machines of a recovery.</summary>
internal sealed class ManyRestoresChoices
{
    private readonly Option<string?> _folder = new("--folder")
    {
        Description = "Restore as new machines, each into a folder with its name below this one, which exists: an absolute path on the agents' hosts", HelpName = "DIR",
    };

    private readonly Option<bool> _replace = new("--replace") { Description = "Take the places of the existing machines, which must be stopped; their disks go when the new ones are complete" };
    private readonly Option<bool> _inPlace = new("--in-place") { Description = "Write what differs into the existing disks of the stopped machines" };
    private readonly Option<bool> _keepReplaced = new("--keep-replaced") { Description = "With --replace: keep the old disks beside the new ones" };
    private readonly Option<string?> _agent = new("--agent") { Description = "Restore all on this agent's host [default: each on the one that has it]", HelpName = "NAME" };
    private readonly Option<string?> _suffix = new("--name-suffix") { Description = "With --folder: what follows the names of the restored machines [default: nothing]", HelpName = "TEXT" };
    private readonly Option<bool> _keepIdentity = new("--keep-identity") { Description = "Keep UUIDs and MAC addresses: for machines that replace the originals, never beside them" };
    private readonly Option<string?> _format = new("--format") { Description = "Format of all new disk images: raw or qcow2 [default: as they were]", HelpName = "FORMAT" };

    private readonly Option<string[]> _networks = NetworkMappings.Option();

    public ManyRestoresChoices()
    {
        _format.AcceptOnlyFromAmong("raw", "qcow2");
        HostFolder.RequireAbsolute(_folder, "the agents' hosts");
    }

    public void AddTo(Command command)
    {
        command.Add(_folder);
        command.Add(_replace);
        command.Add(_inPlace);
        command.Add(_keepReplaced);
        command.Add(_agent);
        command.Add(_suffix);
        command.Add(_keepIdentity);
        command.Add(_format);
        command.Add(_networks);
        command.Validators.Add(result =>
        {
            if ((result.GetValue(_folder) is null ? 0 : 1) + (result.GetValue(_replace) ? 1 : 0) + (result.GetValue(_inPlace) ? 1 : 0) != 1)
            {
                result.AddError("Say where the machines go, by exactly one of --folder DIR, --replace and --in-place.");
            }
            else if (result.GetValue(_keepReplaced) && !result.GetValue(_replace))
            {
                result.AddError("--keep-replaced belongs to --replace.");
            }
            else if (result.GetValue(_suffix) is not null && result.GetValue(_folder) is null)
            {
                result.AddError("--name-suffix belongs to --folder.");
            }
        });
    }

    public string ReadAgent(ParseResult parse) => parse.GetValue(_agent) ?? "";

    public RestoreOptions Read(ParseResult parse)
    {
        var options = new RestoreOptions
        {
            Folder = parse.GetValue(_folder) ?? "",
            Placement = parse.GetValue(_replace) ? RestorePlacement.Replace : parse.GetValue(_inPlace) ? RestorePlacement.InPlace : RestorePlacement.New,
            KeepReplaced = parse.GetValue(_keepReplaced),
            Name = parse.GetValue(_suffix) ?? "",
            KeepIdentity = parse.GetValue(_keepIdentity),
            Start = true,
            Format = parse.GetValue(_format) ?? "",
        };
        options.Networks.Add(NetworkMappings.Read(parse, _networks));
        return options;
    }
}
