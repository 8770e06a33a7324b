using VirtBackup.Core;

namespace VirtBackup.Hypervisors.Images;

/// <summary>Restores onto the images, or in place of the images, that a machine is configured with.</summary>
internal sealed class ConfiguredImages(IReadOnlyList<ImageMachine> machines, ImageTools tools, ImageInspector inspector)
{
    public async Task<IReadOnlyList<RestoreFinding>> CheckAsync(RestoreRequest request, CancellationToken cancellationToken)
    {
        var (places, findings) = FindPlaces(request);
        if (findings.Count > 0)
        {
            return findings;
        }
        if (request.Placement == RestorePlacement.Replace)
        {
            return await ReplacingRestore.CheckAsync(request, places, tools, cancellationToken);
        }
        foreach (var (disk, place) in request.Disks.Zip(places))
        {
            if (await InPlaceRestore.CheckAsync(disk, place, tools, cancellationToken) is { } finding)
            {
                findings.Add(finding);
            }
        }
        findings.Add(new RestoreFinding("machine", FindingSeverity.Adapts, $"What differs is written into {string.Join(", ", places.Select(place => place.Path))}; nothing is started."));
        return findings;
    }

    public async Task<IRestore> BeginAsync(RestoreRequest request, CancellationToken cancellationToken)
    {
        var (places, _) = FindPlaces(request);
        ReplacementJournal.Recover(places.Select(place => place.Path));
        if ((await CheckAsync(request, cancellationToken)).Where(finding => finding.Severity == FindingSeverity.Blocks).ToList() is { Count: > 0 } blocked)
        {
            throw new FaultException(FaultReason.FailedPrecondition, string.Join(" ", blocked.Select(finding => finding.Message)));
        }
        return request.Placement == RestorePlacement.Replace
            ? await ReplacingRestore.BeginAsync(request, places, tools, (_, token) => FinishAsync(request, places, token), cancellationToken)
            : await InPlaceRestore.BeginAsync(
                request, [.. request.Disks.Zip(places).Select(pair => new ExistingPlace(pair.First, pair.Second, null, null, "image files have no change tracking"))],
                tools, token => FinishAsync(request, places, token), cancellationToken);
    }

    private (IReadOnlyList<MachineImage> Places, List<RestoreFinding> Findings) FindPlaces(RestoreRequest request)
    {
        var findings = new List<RestoreFinding>();
        var places = new List<MachineImage>();
        if (machines.FirstOrDefault(machine => machine.Uuid == request.Machine) is not { } machine)
        {
            return (places, [Blocks($"No image machine {request.Machine.ToUuidString()} is configured on this host. Restore into a folder, or choose the agent that has the machine.")]);
        }
        foreach (var disk in request.Disks)
        {
            if (machine.Images.FirstOrDefault(image => image.IdFor(machine.Uuid) == disk.Id) is { } image)
            {
                places.Add(image);
            }
            else
            {
                findings.Add(Blocks($"{machine.Name} is configured without the disk {disk.Name}. Add it in agent.yaml, or choose disks with --disk."));
            }
        }
        return (places, findings);
    }

    private async Task<RestoredMachine> FinishAsync(RestoreRequest request, IReadOnlyList<MachineImage> places, CancellationToken cancellationToken)
    {
        var details = places.ToDictionary(place => $"disk {place.Name}", place => place.Path, StringComparer.Ordinal);
        return new RestoredMachine(request.Machine, request.Name, Running: false, details)
        {
            Description = await ImageDescription.ReadBackAsync(request, places, inspector, cancellationToken),
        };
    }

    private static RestoreFinding Blocks(string message) => new("machine", FindingSeverity.Blocks, message);
}
