using VirtBackup.Hypervisors.State;

namespace VirtBackup.Hypervisors.Libvirt;

/// <summary>
/// Whether libvirt on this host can go on with a running state. A guest that boots adapts itself to much; one that goes on finds what it
/// knew, or fails: what is known to be different blocks. Whether the version of QEMU reads the state only loading shows.
/// </summary>
internal static class DomainStateComparison
{
    private const string Item = "state";
    private static readonly HashSet<string> Decisive = ["cpu", "machine type"];

    /// <param name="others">What was found about the machine without its state.</param>
    public static IReadOnlyList<RestoreFinding> Compare(RestoreRequest request, DomainDocument stored, IReadOnlyList<RestoreFinding> others)
    {
        if (request.State is not { } state)
        {
            return [];
        }
        // A processor that is whatever its host has is stored by name in the state itself; libvirt compares it when it loads it.
        var isEmulated = stored.Root.Attribute("type")?.Value == "qemu";
        List<string?> obstacles =
        [
            request.Start ? null : "The machine is not to be started, and a running state cannot wait.",
            request.DisksOnly ? "Single disks are restored, and a running state is a whole machine's." : null,
            request.KeepIdentity ? null : "A machine that goes on keeps its UUID and its MAC addresses: ask for the same identity.",
            request.Name == stored.Name ? null : $"libvirt goes on with a machine under its own name only, and it was called {stored.Name}.",
            request.Disks.Any(disk => disk.Bus is not null) ? "A disk cannot change its bus under a running guest." : null,
            .. others.Where(finding => Decisive.Contains(finding.Item) && finding.Severity == FindingSeverity.Adapts && !isEmulated).Select(finding => finding.Message),
            HostMemory.Judge(stored.MemoryBytes),
        ];
        var found = obstacles.OfType<string>().Select(obstacle => new RestoreFinding(Item, FindingSeverity.Blocks,
            $"The machine cannot go on from its running state here. {obstacle} Choose another host, or restore without the state.")).ToList();
        return found.Count > 0 ? found :
        [
            new RestoreFinding(Item, FindingSeverity.Fits, $"The machine goes on from its running state, {state.Memory.LengthBytes >> 20} MiB of memory; its clock and its connections are those of the recovery point."),
            new RestoreFinding("state version", FindingSeverity.Unknown, "Whether QEMU here reads a state of the QEMU that saved it shows when it is loaded: an older one does not."),
        ];
    }
}
