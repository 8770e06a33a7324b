using VirtBackup.Hypervisors.Libvirt;

namespace VirtBackup.Agent.Host;

/// <summary>The section <c>libvirt</c> of agent.yaml: which of libvirt's machines this agent serves.</summary>
public sealed class LibvirtSettings
{
    private const string DefaultFleeceFolder = "/var/lib/virtbackup-scratch";

    /// <summary>Connections to libvirt on this host.</summary>
    public List<string> Uris { get; set; } = [LibvirtOptions.SystemUri];

    /// <summary>Where copies of what guests overwrite lie while a backup runs; QEMU's user must be able to enter it.</summary>
    public string? FleeceFolder { get; set; }

    /// <summary>What must stay free there; a backup that would need more is given up. MiB.</summary>
    public int FleeceFreeMibMin { get; set; } = 1024;

    /// <summary>Names of machines to serve; empty: all.</summary>
    public List<string> Include { get; set; } = [];

    /// <summary>Names of machines to leave alone.</summary>
    public List<string> Exclude { get; set; } = [];

    /// <summary>QEMU's monitor may be asked how long single writes of the guest take; libvirt marks the machine as tainted then.</summary>
    public bool MonitorCommands { get; set; } = true;

    public LibvirtOptions ToOptions() => new(Uris, FleeceFolder ?? DefaultFleeceFolder)
    {
        Include = Include.ToHashSet(StringComparer.Ordinal), Exclude = Exclude.ToHashSet(StringComparer.Ordinal), FleeceFreeBytesMin = (long)FleeceFreeMibMin << 20,
        MonitorCommands = MonitorCommands,
    };

    /// <summary>What is wrong with the section, or null.</summary>
    public string? FindProblem()
    {
        // YAML can say "nothing" anywhere.
        Uris ??= [];
        Include ??= [];
        Exclude ??= [];
        if (Uris.Count == 0)
        {
            return "libvirt.uris is empty: name a connection, or remove the section.";
        }
        if (Uris.Select(LibvirtUri.ProblemOf).FirstOrDefault(problem => problem is not null) is { } problem)
        {
            return $"libvirt.uris: {problem}.";
        }
        if (FleeceFolder is not null && !Path.IsPathRooted(FleeceFolder))
        {
            return "libvirt.fleece_folder must be an absolute path.";
        }
        if (FleeceFreeMibMin < 1)
        {
            return "libvirt.fleece_free_mib_min must be at least 1.";
        }
        return Include.Concat(Exclude).Any(string.IsNullOrWhiteSpace) ? "libvirt.include and libvirt.exclude hold names of machines; one is empty." : null;
    }
}
