using System.Text.Json;
using VirtBackup.Core;
using VirtBackup.Format.Manifests;
using VirtBackup.Hypervisors;
using VirtBackup.Protocol.Common.V1;
using NetworkMapping = VirtBackup.Hypervisors.NetworkMapping;
using RestorePlacement = VirtBackup.Hypervisors.RestorePlacement;

namespace VirtBackup.Agent.Restore;

/// <summary>Turns an operator's choices and a stored point into what a hypervisor is asked for.</summary>
internal sealed class RestoreRequests(StoredPoint stored, RestoreOptions options, Func<ManifestStream, CancellationToken, Task<long>> countData)
{
    private Id16 Point => stored.Manifest.Head.Point;

    /// <exception cref="FaultException">
    /// <see cref="FaultReason.Unsupported"/>: no hypervisor of this agent can do it; <see cref="FaultReason.InvalidArgument"/>: the
    /// choices name what the point does not have.
    /// </exception>
    public async Task<(IHypervisor Hypervisor, RestoreRequest Request)> MakeAsync(IReadOnlyList<IHypervisor> hypervisors, CancellationToken cancellationToken)
    {
        var body = stored.Body;
        var hypervisor = hypervisors.FirstOrDefault(candidate => candidate.Kind == body.HypervisorKind)
            ?? throw new FaultException(FaultReason.Unsupported, $"Recovery point {Point} was made on {body.HypervisorKind}; this agent serves {string.Join(", ", hypervisors.Select(candidate => candidate.Kind))}. Choose another agent.");
        var configuration = new MachineConfiguration(
            body.VmName, body.Machine ?? JsonSerializer.SerializeToElement(new { }), body.Native?.Kind ?? "none", body.Native?.Content ?? []);
        var placement = PlacementOf(options.Placement);
        var request = new RestoreRequest(
            stored.Manifest.Head.Vm, Point, body.HypervisorKind, configuration, await ReadDisksAsync(cancellationToken), options.Folder, options.Name.Length > 0 ? options.Name : body.VmName)
        {
            KeepIdentity = options.KeepIdentity || options.WithState || placement != RestorePlacement.NewFolder,
            Adopt = options.Adopt,
            Start = options.Start && options.OnlyDisks.Count == 0,
            Preallocation = options.Preallocation switch
            {
                Preallocation.Metadata => DiskPreallocation.Metadata,
                Preallocation.Full => DiskPreallocation.Full,
                _ => DiskPreallocation.None,
            },
            Placement = placement,
            DisksOnly = options.OnlyDisks.Count > 0,
            KeepReplaced = options.KeepReplaced,
            State = options.WithState ? await ReadStateAsync(cancellationToken) : null,
            Networks = [.. options.Networks.Select(network => new NetworkMapping(network.From, network.To))],
        };
        RequireFitting(request);
        RequireAbilities(hypervisor, request);
        return (hypervisor, request);
    }

    private async Task<IReadOnlyList<RestoreDisk>> ReadDisksAsync(CancellationToken cancellationToken)
    {
        var streams = stored.Manifest.Head.Streams.Where(stream => stream.Kind == StreamKind.Disk)
            .Select(stream => (Stream: stream, Description: stored.Body.Streams.FirstOrDefault(candidate => Id16.Parse(candidate.Id) == stream.Id)
                ?? throw FaultException.Corrupt($"Recovery point {Point} does not describe its stream {stream.Id}.")))
            .ToList();
        foreach (var name in options.OnlyDisks.Concat(options.Disks.Select(choice => choice.Name)))
        {
            if (streams.TrueForAll(disk => disk.Description.Name != name))
            {
                throw new FaultException(FaultReason.InvalidArgument,
                    $"Recovery point {Point} has no disk called '{name}'. It has {string.Join(", ", streams.Select(disk => disk.Description.Name))}.");
            }
        }
        var disks = new List<RestoreDisk>();
        foreach (var (stream, description) in streams.Where(disk => options.OnlyDisks.Count == 0 || options.OnlyDisks.Contains(disk.Description.Name)))
        {
            var choice = options.Disks.LastOrDefault(candidate => candidate.Name == description.Name);
            var chosen = FirstOf(choice?.Format, options.Format);
            var format = FirstOf(chosen, description.Format) ?? "qcow2";
            disks.Add(new RestoreDisk(stream.Id, description.Name, stream.Geometry.StreamLength, format, await countData(stream, cancellationToken))
            {
                IsFormatChosen = chosen is not null,
                Bus = FirstOf(choice?.Bus, options.Bus),
            });
        }
        return disks;
    }

    private async Task<RestoreState> ReadStateAsync(CancellationToken cancellationToken)
    {
        var disks = new List<RestoreDisk>();
        foreach (var (kind, name) in new[] { (StreamKind.RamState, "memory"), (StreamKind.DeviceState, "devices") })
        {
            var stream = stored.Manifest.Head.Streams.FirstOrDefault(candidate => candidate.Kind == kind);
            if (stream.Id.IsEmpty)
            {
                throw new FaultException(FaultReason.InvalidArgument, $"Recovery point {Point} does not hold the machine's running state: restore it without, or choose a point that was made with '--with-state'.");
            }
            disks.Add(new RestoreDisk(stream.Id, name, stream.Geometry.StreamLength, "raw", await countData(stream, cancellationToken)));
        }
        return new RestoreState(disks[0], disks[1]);
    }

    private static RestorePlacement PlacementOf(Protocol.Common.V1.RestorePlacement placement) => placement switch
    {
        Protocol.Common.V1.RestorePlacement.Unspecified or Protocol.Common.V1.RestorePlacement.New => RestorePlacement.NewFolder,
        Protocol.Common.V1.RestorePlacement.Replace => RestorePlacement.Replace,
        Protocol.Common.V1.RestorePlacement.InPlace => RestorePlacement.InPlace,
        _ => throw new FaultException(FaultReason.Unsupported, "This agent does not know where the machine is to be restored. Update the agent."),
    };

    private void RequireFitting(RestoreRequest request)
    {
        if (request.Placement != RestorePlacement.NewFolder && (request.Folder.Length > 0 || options.Name.Length > 0))
        {
            throw new FaultException(FaultReason.InvalidArgument, "A machine that is replaced or restored in place keeps its folder and its name: give neither.");
        }
        if (request.Placement == RestorePlacement.InPlace
            && (options.Format.Length > 0 || options.Bus.Length > 0 || options.Disks.Count > 0 || options.Networks.Count > 0 || options.Preallocation is not (Preallocation.None or Preallocation.Unspecified)))
        {
            throw new FaultException(FaultReason.InvalidArgument, "A restore in place writes into the disks as they are: formats, buses, networks and preallocation cannot be chosen.");
        }
        if (request.Adopt && (request.Placement != RestorePlacement.NewFolder || !request.KeepIdentity || request.Start || request.DisksOnly))
        {
            throw new FaultException(FaultReason.InvalidArgument, "A machine that moves to this host is a new one there, whole, with its identity, and is started later.");
        }
        if (request.DisksOnly && (request.Networks.Count > 0 || request.Disks.Any(disk => disk.Bus is not null)))
        {
            throw new FaultException(FaultReason.InvalidArgument, "Single disks are restored without a machine: buses and networks cannot be chosen.");
        }
    }

    private static void RequireAbilities(IHypervisor hypervisor, RestoreRequest request)
    {
        (RestoreAbilities Ability, bool Asked, string What)[] asked =
        [
            (RestoreAbilities.Replace, request.Placement == RestorePlacement.Replace, "replace an existing machine"),
            (RestoreAbilities.InPlace, request.Placement == RestorePlacement.InPlace, "restore in place"),
            (RestoreAbilities.DisksOnly, request.DisksOnly, "restore single disks"),
            (RestoreAbilities.BusMapping, request.Disks.Any(disk => disk.Bus is not null), "attach disks to another bus"),
            (RestoreAbilities.State, request.State is not null, "go on from a running state"),
            (RestoreAbilities.Adopt, request.Adopt, "take over machines from other hosts"),
            (RestoreAbilities.NetworkMapping, request.Networks.Count > 0, "attach network cards to other networks"),
        ];
        foreach (var (ability, _, what) in asked.Where(choice => choice.Asked && !hypervisor.RestoreAbilities.HasFlag(choice.Ability)))
        {
            throw new FaultException(FaultReason.Unsupported, $"Machines of the platform '{hypervisor.Kind}' cannot be restored like that: it is not possible to {what}. Restore without that choice ({ability}).");
        }
    }

    private static string? FirstOf(params string?[] texts) => texts.FirstOrDefault(text => !string.IsNullOrEmpty(text));
}
