using System.CommandLine;
using VirtBackup.Cli.Commands.Restores;
using VirtBackup.Protocol.Admin.V1;
using VirtBackup.Protocol.Common.V1;

namespace VirtBackup.Cli.Commands.Migrations;

/// <summary>The options of a migration, for running and for planning one.</summary>
internal sealed class MigrationChoices
{
    private readonly Option<string?> _toHost = new("--to-host") { Description = "Move the machine to this agent's host", HelpName = "AGENT" };

    private readonly Option<string?> _toStorage = new("--to-storage")
    {
        Description = "Move the disks on their own host, while the machine runs or is off: to this folder or pool (pool:NAME)", HelpName = "TARGET",
    };

    private readonly Option<string?> _folder = new("--folder")
    {
        Description = "With --to-host: the folder for the machine, an absolute path there that does not hold anything yet", HelpName = "DIR",
    };

    private readonly Option<bool> _cold = new("--cold") { Description = "Stop the machine first, then copy; otherwise it is copied while it runs, and stopped for the last changes only" };
    private readonly Option<string?> _format = new("--format") { Description = "Format of the new images [default: as it was]", HelpName = "raw|qcow2" };

    private readonly Option<string[]> _disks = new("--disk")
    {
        Description = "With --to-storage: move only this disk, or it to another target (may be repeated)", HelpName = "DISK[=TARGET]", DefaultValueFactory = static _ => [],
    };

    private readonly Option<string[]> _networks = NetworkMappings.Option("With --to-host");

    private readonly Option<ulong> _rate = new("--rate-limit")
    {
        Description = "Copy at most this much per second while the machine runs, such as 50MiB", HelpName = "BYTES", CustomParser = static result => ByteCount.Parse(result),
    };

    private readonly Option<uint> _rounds = new("--rounds-max")
    {
        Description = "Copy what changed at most so often before the stop, up to 64 [default: 8]", HelpName = "N", CustomParser = static result => (uint)BoundedNumber.Parse(result, "--rounds-max", 64),
    };

    private readonly Option<ulong> _lastBytes = new("--last-bytes")
    {
        Description = "Stop the machine when no more than this changed since the last copy [default: 64MiB]", HelpName = "BYTES", CustomParser = static result => ByteCount.Parse(result),
    };

    private readonly Option<bool> _stopAnyway = new("--stop-anyway") { Description = "Stop the machine though it changes faster than it is copied; otherwise the migration is given up" };

    private readonly Option<uint> _stopTimeout = new("--stop-timeout")
    {
        Description = "Seconds that the guest has to shut down, up to 3600 [default: 120]", HelpName = "SECONDS", CustomParser = static result => (uint)BoundedNumber.Parse(result, "--stop-timeout", 3600, "seconds"),
    };

    private readonly Option<bool> _force = new("--force-stop") { Description = "Cut the machine's power when it has not shut down by then; otherwise the migration is given up" };
    private readonly Option<bool> _removeSource = new("--remove-source") { Description = "Delete the old copy when the machine runs in its new place; otherwise it stays, out of use, until it is removed" };

    public MigrationChoices()
    {
        _format.AcceptOnlyFromAmong("raw", "qcow2");
        HostFolder.RequireAbsolute(_folder, "the target host");
    }

    public bool RemovesSource(ParseResult parse) => parse.GetValue(_removeSource);

    public void AddTo(Command command)
    {
        foreach (var option in new Option[] { _toHost, _toStorage, _folder, _cold, _format, _disks, _networks, _rate, _rounds, _lastBytes, _stopAnyway, _stopTimeout, _force, _removeSource })
        {
            command.Add(option);
        }
        Option[] ofHosts = [_folder, _cold, _networks, _rounds, _lastBytes, _stopAnyway, _stopTimeout, _force];
        command.Validators.Add(result =>
        {
            var toHost = result.GetValue(_toHost) is not null;
            var toStorage = result.GetValue(_toStorage) is not null || (result.GetValue(_disks) ?? []).Any(static disk => disk.Contains('=', StringComparison.Ordinal));
            if (toHost == toStorage)
            {
                result.AddError("Say where to, by exactly one of --to-host AGENT and --to-storage TARGET.");
            }
            else if (toHost && result.GetValue(_folder) is null)
            {
                result.AddError("Say into which folder of the target host the machine moves: --folder DIR.");
            }
            else if (toHost && result.GetValue(_disks) is { Length: > 0 })
            {
                result.AddError("--disk belongs to --to-storage: a machine moves to another host with all its disks.");
            }
            else if (toStorage && ofHosts.Where(option => result.GetResult(option) is { Implicit: false }).Select(static option => option.Name).ToList() is { Count: > 0 } strangers)
            {
                result.AddError($"{string.Join(" and ", strangers)} {(strangers.Count == 1 ? "belongs" : "belong")} to --to-host: disks that move on their own host need no stop.");
            }
        });
    }

    public MigrationOptions Read(ParseResult parse)
    {
        var options = new MigrationOptions
        {
            Agent = parse.GetValue(_toHost) ?? "",
            Cold = parse.GetValue(_cold),
            BytesPerSecondMax = parse.GetValue(_rate),
            RoundsMax = parse.GetValue(_rounds),
            LastBytesMax = parse.GetValue(_lastBytes),
            StopAnyway = parse.GetValue(_stopAnyway),
            RemoveSource = parse.GetValue(_removeSource),
            Stop = new StopOptions { TimeoutSeconds = parse.GetValue(_stopTimeout), Force = parse.GetValue(_force) },
        };
        if (options.Agent.Length > 0)
        {
            options.Restore = new RestoreOptions { Folder = parse.GetValue(_folder) ?? "", Format = parse.GetValue(_format) ?? "" };
            options.Restore.Networks.Add(NetworkMappings.Read(parse, _networks));
            return options;
        }
        options.Storage = new StorageMoveOptions
        {
            Target = parse.GetValue(_toStorage) ?? "", Format = parse.GetValue(_format) ?? "", BytesPerSecondMax = options.BytesPerSecondMax, KeepSource = !options.RemoveSource,
        };
        options.Storage.Disks.Add((parse.GetValue(_disks) ?? []).Select(static given => given.IndexOf('=', StringComparison.Ordinal) is var at && at >= 0
            ? new DiskMove { Name = given[..at], Target = given[(at + 1)..] } : new DiskMove { Name = given }));
        return options;
    }
}
