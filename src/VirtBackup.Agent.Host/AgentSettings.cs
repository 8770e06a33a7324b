using VirtBackup.Agent.Auditing;
using VirtBackup.Agent.Guests;
using VirtBackup.Agent.Restore.Starting;
using VirtBackup.Core;
using VirtBackup.Format.Maps;
using VirtBackup.Hypervisors.Images;
using VirtBackup.Hypervisors.Qemu;
using YamlDotNet.Core;
using YamlDotNet.Serialization;
using YamlDotNet.Serialization.NamingConventions;

namespace VirtBackup.Agent.Host;

/// <summary>The agent's configuration file, <c>agent.yaml</c>. deploy/agent.yaml documents every field.</summary>
public sealed class AgentSettings
{
    public const string DefaultPath = "/etc/virtbackup/agent.yaml";

    /// <summary>Folder of keys, state and, by default, fleece files.</summary>
    public string Home { get; set; } = "/var/lib/virtbackup-agent";

    /// <summary>Where copies of what guests overwrite lie while a backup runs; must be reachable by the QEMU processes.</summary>
    public string? FleeceFolder { get; set; }

    /// <summary>host:port; empty: as told by the join token.</summary>
    public string? Controller { get; set; }

    /// <summary>Processors to use for compression and sealing; 0: all.</summary>
    public int Workers { get; set; }

    /// <summary>What all backups of this host together may read, MiB per second; 0: no limit.</summary>
    public int ReadMibPerSecondMax { get; set; }

    /// <summary>How disks are cut into chunks; <see cref="ToShape"/> knows the names.</summary>
    public string Chunks { get; set; } = "content-128K";

    /// <summary>normal, low or idle.</summary>
    public string Priority { get; set; } = "normal";

    /// <summary>How guests are treated while they are backed up.</summary>
    public List<GuestSettings> Guests { get; set; } = [];

    /// <summary>The commands that readiness probes may name.</summary>
    public List<ProbeSettings> Probes { get; set; } = [];

    /// <summary>Runs in which the audit of change tracking reads every disk again whole; 0: no audit.</summary>
    public int AuditRuns { get; set; } = AuditOptions.Default.Runs;

    /// <summary>The longest that the audit of one run may take, seconds.</summary>
    public int AuditSecondsMax { get; set; } = (int)AuditOptions.Default.TimeMax.TotalSeconds;

    public List<MachineSettings> Machines { get; set; } = [];

    public List<ImageMachineSettings> Images { get; set; } = [];

    /// <summary>Machines that libvirt manages; null: none.</summary>
    public LibvirtSettings? Libvirt { get; set; }

    private static readonly Dictionary<string, MapShape> Shapes = new(StringComparer.Ordinal)
    {
        ["fixed-64K"] = MapShape.Of(Chunker.Fixed, 16), ["fixed-256K"] = MapShape.Default, ["fixed-1M"] = MapShape.Of(Chunker.Fixed, 20),
        ["content-64K"] = MapShape.Of(Chunker.ContentDefined, 16), ["content-128K"] = MapShape.Of(Chunker.ContentDefined, 17), ["content-256K"] = MapShape.Of(Chunker.ContentDefined, 18),
    };

    /// <exception cref="FaultException">The file is missing, is not YAML, or holds something that cannot be.</exception>
    public static AgentSettings Load(string path)
    {
        AgentSettings settings;
        try
        {
            var deserializer = new DeserializerBuilder().WithNamingConvention(UnderscoredNamingConvention.Instance).WithDuplicateKeyChecking().Build();
            settings = deserializer.Deserialize<AgentSettings>(File.ReadAllText(path)) ?? new AgentSettings();
        }
        catch (YamlException exception)
        {
            throw new FaultException(FaultReason.InvalidArgument, $"{path}, line {exception.Start.Line}: {exception.InnerException?.Message ?? exception.Message}", exception);
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            throw new FaultException(FaultReason.NotFound, $"The agent's configuration {path} cannot be read: {exception.Message} Create it (deploy/agent.yaml is a template) or name another with --config.", exception);
        }
        settings.Validate(path);
        return settings;
    }

    public SchedulingPriority ToPriority() => Enum.Parse<SchedulingPriority>(Priority, ignoreCase: true);

    /// <exception cref="FaultException">An entry holds something that cannot be.</exception>
    public GuestPolicies ToGuestPolicies(string path = DefaultPath) => GuestSettings.ToPolicies(Guests ?? [], path);

    /// <exception cref="FaultException">An entry holds something that cannot be.</exception>
    public IReadOnlyDictionary<string, ProbeCommand> ToProbeCommands(string path = DefaultPath) => ProbeSettings.ToCommands(Probes ?? [], path);

    public MapShape ToShape() => Shapes[Chunks];

    public AuditOptions ToAudit() => new(AuditRuns, TimeSpan.FromSeconds(AuditSecondsMax));

    public IReadOnlyList<QemuMachine> ToQemuMachines() =>
        [.. Machines.Select(machine => new QemuMachine(Id16.Parse(machine.Uuid!.Replace("-", "", StringComparison.Ordinal)), machine.Name!, machine.Qmp!, machine.GuestAgent))];

    public IReadOnlyList<ImageMachine> ToImageMachines() =>
        [.. Images.Select(machine => new ImageMachine(
            Id16.Parse(machine.Uuid!.Replace("-", "", StringComparison.Ordinal)), machine.Name!,
            [.. machine.Disks.Select(disk => new MachineImage(disk.Name ?? Path.GetFileNameWithoutExtension(disk.Path!), disk.Path!, disk.Format!))]))];

    private void Validate(string path)
    {
        FaultException Wrong(string what) => new(FaultReason.InvalidArgument, $"{path}: {what}");
        // YAML can say "nothing" anywhere.
        Machines ??= [];
        Images ??= [];
        if (Machines.Contains(null!) || Images.Contains(null!) || Images.Exists(static machine => machine.Disks is null || machine.Disks.Contains(null!)))
        {
            throw Wrong("an entry of machines, images or disks is empty: fill it in or remove its dash.");
        }
        if (!Path.IsPathRooted(Home) || (FleeceFolder is not null && !Path.IsPathRooted(FleeceFolder)))
        {
            throw Wrong("home and fleece_folder must be absolute paths.");
        }
        if (Workers is < 0 or > 1024)
        {
            throw Wrong("workers must be between 0 (all processors) and 1024.");
        }
        if (Chunks is null || !Shapes.ContainsKey(Chunks))
        {
            throw Wrong($"chunks must be one of {string.Join(", ", Shapes.Keys)}.");
        }
        if (Priority is not ("normal" or "low" or "idle"))
        {
            throw Wrong("priority must be normal, low or idle.");
        }
        _ = ToGuestPolicies(path);
        _ = ToProbeCommands(path);
        if (ReadMibPerSecondMax < 0)
        {
            throw Wrong("read_mib_per_second_max must be 0 (no limit) or more.");
        }
        if (AuditRuns is < 0 or > AuditOptions.RunsMax)
        {
            throw Wrong($"audit_runs must be between 0 (no audit) and {AuditOptions.RunsMax}.");
        }
        if (AuditSecondsMax < 1 || AuditSecondsMax > AuditOptions.TimeLimitMax.TotalSeconds)
        {
            throw Wrong($"audit_seconds_max must be between 1 and {AuditOptions.TimeLimitMax.TotalSeconds}.");
        }
        if (Libvirt?.FindProblem() is { } problem)
        {
            throw Wrong(problem);
        }
        var ids = new HashSet<Id16>();
        var names = new HashSet<string>(StringComparer.Ordinal);
        foreach (var machine in Machines)
        {
            if (string.IsNullOrWhiteSpace(machine.Name) || !names.Add(machine.Name))
            {
                throw Wrong($"every machine needs a name of its own ('{machine.Name}').");
            }
            if (!Id16.TryParse(machine.Uuid, out var id) || id.IsEmpty || !ids.Add(id))
            {
                throw Wrong($"machine {machine.Name}: uuid '{machine.Uuid}' is missing, not a UUID, or used twice.");
            }
            if (machine.Qmp is null || !Path.IsPathRooted(machine.Qmp) || (machine.GuestAgent is not null && !Path.IsPathRooted(machine.GuestAgent)))
            {
                throw Wrong($"machine {machine.Name}: qmp (and guest_agent, if given) must be absolute paths of sockets.");
            }
        }
        foreach (var machine in Images)
        {
            if (string.IsNullOrWhiteSpace(machine.Name) || !names.Add(machine.Name))
            {
                throw Wrong($"every machine needs a name of its own ('{machine.Name}').");
            }
            if (!Id16.TryParse(machine.Uuid, out var id) || id.IsEmpty || !ids.Add(id))
            {
                throw Wrong($"machine {machine.Name}: uuid '{machine.Uuid}' is missing, not a UUID, or used twice.");
            }
            if (machine.Disks.Count == 0 || machine.Disks.Any(disk => disk.Path is null || !Path.IsPathRooted(disk.Path) || disk.Format is not ("raw" or "qcow2")))
            {
                throw Wrong($"machine {machine.Name}: every disk needs an absolute path and a format (raw or qcow2).");
            }
            if (machine.Disks.Select(disk => disk.Name ?? Path.GetFileNameWithoutExtension(disk.Path!)).Distinct(StringComparer.Ordinal).Count() < machine.Disks.Count)
            {
                throw Wrong($"machine {machine.Name}: two disks have the same name; give each a name.");
            }
        }
    }
}

/// <summary>One QEMU machine of this host.</summary>
public sealed class MachineSettings
{
    public string? Name { get; set; }

    public string? Uuid { get; set; }

    /// <summary>Path of a QMP socket that nothing else keeps open.</summary>
    public string? Qmp { get; set; }

    /// <summary>Path of the guest agent's socket; without it backups are crash-consistent.</summary>
    public string? GuestAgent { get; set; }
}

/// <summary>A powered-off machine of image files.</summary>
public sealed class ImageMachineSettings
{
    public string? Name { get; set; }

    public string? Uuid { get; set; }

    public List<ImageDiskSettings> Disks { get; set; } = [];
}

/// <summary>One image file.</summary>
public sealed class ImageDiskSettings
{
    /// <summary>Empty: the file's name without its ending.</summary>
    public string? Name { get; set; }

    public string? Path { get; set; }

    /// <summary>raw or qcow2; never guessed, because a guest could fake another format.</summary>
    public string? Format { get; set; }
}
