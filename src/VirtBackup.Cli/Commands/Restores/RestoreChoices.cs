using System.CommandLine;
using VirtBackup.Protocol.Common.V1;

namespace VirtBackup.Cli.Commands.Restores;

/// <summary>The options of a restore, for running and for checking one.</summary>
internal sealed class RestoreChoices
{
    private static readonly string[] Formats = ["raw", "qcow2"];
    private static readonly string[] Buses = ["virtio", "scsi", "ide", "sata"];

    private readonly Option<string?> _folder = new("--folder")
    {
        Description = "Restore as a new machine into this folder: an absolute path on the agent's host that does not hold anything yet", HelpName = "DIR",
    };

    private readonly Option<bool> _replace = new("--replace")
    {
        Description = "Take the place of the existing machine, which must be stopped; its disks go when the new ones are complete",
    };

    private readonly Option<bool> _inPlace = new("--in-place")
    {
        Description = "Write what differs into the existing disks of the stopped machine",
    };

    private readonly Option<bool> _keepReplaced = new("--keep-replaced") { Description = "With --replace: keep the old disks beside the new ones" };

    private readonly Option<string[]> _disks = new("--disk")
    {
        Description = "Restore only this disk, without a machine (may be repeated)", HelpName = "DISK", DefaultValueFactory = static _ => [],
    };

    private readonly Option<string[]> _bus = new("--bus")
    {
        Description = "Attach all disks, or one, to this bus: virtio, scsi, ide or sata (may be repeated) [default: as it was]", HelpName = "[DISK=]BUS", DefaultValueFactory = static _ => [],
    };

    private readonly Option<string[]> _networks = NetworkMappings.Option();

    private readonly Option<string?> _name = new("--name") { Description = "Name of the restored machine [default: as it was]", HelpName = "NAME" };

    private readonly Option<bool> _keepIdentity = new("--keep-identity")
    {
        Description = "Keep UUID and MAC addresses: for a machine that replaces the original, never beside it",
    };

    private readonly Option<bool> _withState = new("--with-state")
    {
        Description = "Go on from the running state in the recovery point instead of booting; UUID and MAC addresses are kept [default: boot]",
    };

    private readonly Option<bool> _noStart = new("--no-start") { Description = "Do not start the restored machine" };

    private readonly Option<string[]> _format = new("--format")
    {
        Description = "Format of all new disk images, or of one: raw or qcow2 (may be repeated) [default: as it was]", HelpName = "[DISK=]FORMAT", DefaultValueFactory = static _ => [],
    };

    private readonly Option<string?> _preallocation = new("--preallocation")
    {
        Description = "How much of the new images is reserved at once [default: none]", HelpName = "none|metadata|full",
    };

    private readonly Option<string?> _agent = new("--agent") { Description = "Restore on this agent's host [default: the one that has the machine]", HelpName = "NAME" };

    public RestoreChoices()
    {
        Accept(_format, Formats);
        Accept(_bus, Buses);
        _preallocation.AcceptOnlyFromAmong("none", "metadata", "full");
        HostFolder.RequireAbsolute(_folder, "the agent's host");
    }

    public void AddTo(Command command)
    {
        command.Add(_folder);
        command.Add(_replace);
        command.Add(_inPlace);
        command.Add(_keepReplaced);
        command.Add(_disks);
        command.Add(_agent);
        command.Add(_name);
        command.Add(_keepIdentity);
        command.Add(_withState);
        command.Add(_noStart);
        command.Add(_format);
        command.Add(_preallocation);
        command.Add(_bus);
        command.Add(_networks);
        command.Validators.Add(result =>
        {
            var places = (result.GetValue(_folder) is null ? 0 : 1) + (result.GetValue(_replace) ? 1 : 0) + (result.GetValue(_inPlace) ? 1 : 0);
            if (places != 1)
            {
                result.AddError("Say where the machine goes, by exactly one of --folder DIR, --replace and --in-place.");
            }
            else if (result.GetValue(_keepReplaced) && !result.GetValue(_replace))
            {
                result.AddError("--keep-replaced belongs to --replace.");
            }
            else if (result.GetValue(_withState) && (result.GetValue(_noStart) || result.GetValue(_disks) is { Length: > 0 }))
            {
                result.AddError("--with-state goes on with a machine: it does not go with --no-start or --disk.");
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
            Name = parse.GetValue(_name) ?? "",
            KeepIdentity = parse.GetValue(_keepIdentity),
            Start = !parse.GetValue(_noStart),
            WithState = parse.GetValue(_withState),
            Preallocation = parse.GetValue(_preallocation) switch
            {
                "metadata" => Preallocation.Metadata,
                "full" => Preallocation.Full,
                _ => Preallocation.None,
            },
        };
        options.OnlyDisks.Add(parse.GetValue(_disks) ?? []);
        var disks = new SortedDictionary<string, DiskChoice>(StringComparer.Ordinal);
        foreach (var (disk, format) in Split(parse.GetValue(_format)))
        {
            if (disk.Length == 0)
            {
                options.Format = format;
            }
            else
            {
                ChoiceFor(disks, disk).Format = format;
            }
        }
        foreach (var (disk, bus) in Split(parse.GetValue(_bus)))
        {
            if (disk.Length == 0)
            {
                options.Bus = bus;
            }
            else
            {
                ChoiceFor(disks, disk).Bus = bus;
            }
        }
        options.Disks.Add(disks.Values);
        options.Networks.Add(NetworkMappings.Read(parse, _networks));
        return options;
    }

    private static void Accept(Option<string[]> option, string[] values)
    {
        option.CompletionSources.Add(values);
        option.Validators.Add(result =>
        {
            foreach (var (_, value) in Split(result.Tokens.Select(static token => token.Value)).Where(given => !values.Contains(given.Value)))
            {
                result.AddError($"{option.Name} takes {string.Join(", ", values[..^1])} or {values[^1]}, for one disk as DISK=VALUE; '{value}' is none of them.");
            }
        });
    }

    // A disk's name may hold the sign itself.
    private static IEnumerable<(string Disk, string Value)> Split(IEnumerable<string>? given) =>
        (given ?? []).Select(static text => text.LastIndexOf('=') is var at && at >= 0 ? (text[..at], text[(at + 1)..]) : ("", text));

    private static DiskChoice ChoiceFor(SortedDictionary<string, DiskChoice> disks, string name)
    {
        if (!disks.TryGetValue(name, out var choice))
        {
            disks.Add(name, choice = new DiskChoice { Name = name });
        }
        return choice;
    }
}
