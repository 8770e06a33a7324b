using System.Text;
using System.Xml.Linq;
using VirtBackup.Core;
using VirtBackup.Hypervisors.Images;
using VirtBackup.Hypervisors.Moving;
using VirtBackup.Hypervisors.State;
using VirtBackup.Hypervisors.Targets;

namespace VirtBackup.Hypervisors.Libvirt;

/// <summary>What a restore will do, worked out before a byte moves; and everything found on the way.</summary>
/// <param name="Existing">The machine that is written to or replaced; null: a new one is made.</param>
/// <param name="Xml">The definition that the machine gets; null: it keeps the one that it has.</param>
/// <param name="Images">In the order of <see cref="RestoreRequest.Disks"/>, unless something blocks.</param>
internal sealed record LibvirtRestorePlan(
    LibvirtConnection Connection, ExistingDomain? Existing, Id16 Uuid, string Name, string? Xml, IReadOnlyList<NewImage> Images, RestoredVariables? Variables,
    IReadOnlyList<RestoreFinding> Findings)
{
    /// <summary>The machine's TPM; null: it is not looked at, since something blocks or single disks are restored.</summary>
    public DomainTpmRestore? Tpm { get; init; }

    /// <summary>The running state to go on from; null: the machine boots.</summary>
    public StateFiles? State { get; init; }

    public bool Refused => Findings.Any(finding => finding.Severity == FindingSeverity.Blocks);

    /// <summary>Folders that get images.</summary>
    public IEnumerable<string> Folders => Images.Select(image => Path.GetDirectoryName(image.Path)!).Distinct(StringComparer.Ordinal);
}

/// <summary>Compares a stored machine with this host and its libvirt. Writes nothing.</summary>
/// <param name="existing">The machine that a restore in place, or instead of it, is for.</param>
internal sealed class LibvirtRestorePlanner(LibvirtContext context, LibvirtConnection connection, ExistingDomain? existing, RestoreRequest request)
{
    private readonly List<RestoreFinding> findings = [];

    private bool InFolder => request.Placement == RestorePlacement.NewFolder;

    // Only a whole machine gets another definition than it has.
    private bool KeepsDefinition => request.Placement == RestorePlacement.InPlace || request.DisksOnly;

    /// <exception cref="FaultException"><see cref="FaultReason.Unsupported"/>: another platform's; <see cref="FaultReason.Malformed"/>.</exception>
    public static DomainDocument ReadStored(RestoreRequest request)
    {
        if (request.Configuration.NativeKind != LibvirtDescriber.Kind)
        {
            throw new FaultException(FaultReason.Unsupported,
                $"The recovery point was made on the platform '{request.HypervisorKind}' and holds a '{request.Configuration.NativeKind}' configuration; this driver restores '{LibvirtDescriber.Kind}'.");
        }
        return DomainDocument.Parse(Encoding.UTF8.GetString(request.Configuration.Native.Span));
    }

    public async Task<LibvirtRestorePlan> PlanAsync(CancellationToken cancellationToken)
    {
        var document = ReadStored(request);
        if (!InFolder && existing is null)
        {
            findings.Add(Blocks("machine",
                $"libvirt on this host has no machine with the UUID {request.Machine.ToUuidString()} that this agent serves, so that there is nothing to {(KeepsDefinition ? "restore onto" : "replace")}. Restore it as a new machine (--folder)."));
            return new LibvirtRestorePlan(connection, null, request.Machine, request.Name, null, [], null, findings);
        }
        findings.AddRange(existing?.Check(request) ?? []);
        var images = new RestoredImages(request, document, existing, findings).Choose();
        await CheckPlacesAsync(images, cancellationToken);
        await CheckPoolsAsync(images, cancellationToken);
        if (InFolder)
        {
            await CheckIdentityAsync(cancellationToken);
            findings.AddRange(request.Adopt ? CheckAdoption() : []);
        }
        var variables = ChooseVariables(document);
        var name = existing?.Name ?? request.Name;
        var rewriter = new DomainRewriter(request, name, images, variables?.Path, context.Entropy, findings);
        var (before, after) = KeepsDefinition
            ? (existing!.View.Document.Root, rewriter.Keep(existing.View.Document.Root)) : (document.Root, await RewriteAsync(rewriter, document, cancellationToken));
        if (KeepsDefinition && !request.DisksOnly)
        {
            await CompareKeptAsync(after, cancellationToken);
        }
        var xml = KeepsDefinition && XNode.DeepEquals(before, after) ? null : after.ToString(SaveOptions.DisableFormatting);
        findings.AddRange(DomainStateComparison.Compare(request, document, findings));
        return new LibvirtRestorePlan(connection, existing, rewriter.Uuid, name, xml, images, variables, findings) { Tpm = await PlanTpmAsync(after, rewriter.Uuid, cancellationToken) };
    }

    private async Task<DomainTpmRestore?> PlanTpmAsync(XElement root, Id16 machine, CancellationToken cancellationToken)
    {
        if (request.DisksOnly)
        {
            return null;
        }
        var tpm = new DomainTpmRestore(context, connection, request, root, machine);
        findings.Add(await tpm.CheckAsync(cancellationToken));
        return tpm;
    }

    // The machine has this hardware already: what is missing matters when it is started.
    private async Task CompareKeptAsync(XElement root, CancellationToken cancellationToken)
    {
        var found = new List<RestoreFinding>();
        var comparison = new DomainComparison(connection, request, found);
        await comparison.CheckMachineTypeAsync(root, cancellationToken);
        await new DomainNetworks(connection, found).CheckAsync(root.Element("devices")!, cancellationToken);
        await comparison.CompareAsync(root, cancellationToken);
        findings.AddRange(found.Select(finding => finding.Severity == FindingSeverity.Blocks && !request.Start ? finding with { Severity = FindingSeverity.Adapts } : finding));
    }

    private async Task<XElement> RewriteAsync(DomainRewriter rewriter, DomainDocument document, CancellationToken cancellationToken)
    {
        var comparison = new DomainComparison(connection, request, findings);
        var root = rewriter.Rewrite(document.Root, await comparison.CheckMachineTypeAsync(document.Root, cancellationToken));
        var buses = new DomainBusMapping(root, findings);
        var devices = root.Element("devices")!;
        foreach (var disk in request.Disks.Where(disk => disk.Bus is not null))
        {
            if (devices.Elements("disk").FirstOrDefault(element => element.Text("target", "dev") is { } target && DomainDocument.DiskId(request.Machine, target) == disk.Id) is { } element)
            {
                buses.Attach(element, disk.Name, disk.Bus!);
            }
        }
        var networks = new DomainNetworks(connection, findings);
        await networks.MapAsync(devices, request.Networks, cancellationToken);
        await networks.CheckAsync(devices, cancellationToken);
        await comparison.CompareAsync(root, cancellationToken);
        return root;
    }

    private async Task CheckPlacesAsync(IReadOnlyList<NewImage> images, CancellationToken cancellationToken)
    {
        if (InFolder)
        {
            findings.AddRange(RestoreFolder.Check(request, isMachine: true));
            return;
        }
        // What is in use, or not there, was said already.
        if (existing!.View.Active || images.Count != request.Disks.Count)
        {
            return;
        }
        MachineImage[] places = [.. images.Select(image => new MachineImage(image.Target, image.Path, image.Format))];
        if (request.Placement == RestorePlacement.Replace)
        {
            findings.AddRange(await ReplacingRestore.CheckAsync(request, places, context.ImageTools, cancellationToken));
        }
        foreach (var folder in places.Select(place => Path.GetDirectoryName(place.Path)!).Distinct(StringComparer.Ordinal).Where(Directory.Exists))
        {
            findings.AddRange(StorageComparison.Compare(request, TargetStorage.Of(folder)));
        }
        if (request.Placement == RestorePlacement.Replace)
        {
            return;
        }
        findings.Add(new RestoreFinding("space", FindingSeverity.Unknown, "What differs is written into the images; a sparse one may grow by as much."));
        foreach (var (disk, place) in request.Disks.Zip(places))
        {
            findings.Add(await InPlaceRestore.CheckAsync(disk, place, context.ImageTools, cancellationToken)
                ?? new RestoreFinding("disk", FindingSeverity.Adapts, $"What differs is written into {place.Path}."));
        }
    }

    private async Task CheckPoolsAsync(IReadOnlyList<NewImage> images, CancellationToken cancellationToken)
    {
        if (request.Placement == RestorePlacement.InPlace)
        {
            return;
        }
        List<StoragePool> pools;
        try
        {
            pools = await connection.QueryAsync(StoragePools.List, cancellationToken);
        }
        catch (FaultException fault) when (fault.Reason != FaultReason.HypervisorUnavailable)
        {
            // The daemon of pools may be another one, which does not run or denies the agent.
            findings.Add(new RestoreFinding("storage pool", FindingSeverity.Unknown, $"Whether images lie in a storage pool cannot be told. {fault.Message}"));
            return;
        }
        findings.AddRange(images.Select(image => Path.GetDirectoryName(image.Path)!).Distinct(StringComparer.Ordinal)
            .Select(folder => StoragePools.Judge(folder, pools)).OfType<RestoreFinding>());
    }

    // Where the machine has them now, if it is here.
    private RestoredVariables? ChooseVariables(DomainDocument document)
    {
        RestoredVariables? variables = null;
        foreach (var content in request.Contents.Where(content => content.Kind == MachineContentKind.Nvram))
        {
            var place = content.Id != FirmwareVariables.IdOf(request.Machine) ? null
                : InFolder ? Path.Combine(request.Folder, FirmwareVariables.FileName)
                : existing!.Variables ?? (KeepsDefinition ? null : FirmwareVariables.PathOf(document.Root));
            if (place is null)
            {
                findings.Add(new RestoreFinding("firmware", FindingSeverity.Adapts, $"The stored {content.Kind} {content.Name} is not recreated: the machine's definition has no file for it."));
            }
            else if (!InFolder && !Directory.Exists(Path.GetDirectoryName(place)))
            {
                findings.Add(Blocks("firmware", $"The folder of the firmware's variables {place} does not exist. Make it, or restore into a folder (--folder)."));
            }
            else
            {
                findings.Add(new RestoreFinding("firmware", FindingSeverity.Fits, $"The firmware's variables are restored as {place}."));
                variables = new RestoredVariables(place, content.Bytes);
            }
        }
        return variables;
    }

    private IEnumerable<RestoreFinding> CheckAdoption()
    {
        var found = Adoption.Check(context.Moving, request);
        return context.Options.Serves(request.Name) ? found : found.Append(Blocks("identity",
            $"The agent of this host does not serve machines called {request.Name} (include and exclude of 'libvirt' in its agent.yaml), so that it would neither start it nor back it up. Have it serve the name, or choose another host."));
    }

    private async Task CheckIdentityAsync(CancellationToken cancellationToken)
    {
        var (named, known) = await connection.QueryAsync(libvirt =>
        {
            using var byName = Domains.TryFind(libvirt, request.Name);
            using var byUuid = request.KeepIdentity ? Domains.TryFind(libvirt, request.Machine) : null;
            return (byName is not null, byUuid is null ? null : Domains.NameOf(byUuid));
        }, cancellationToken);
        if (named)
        {
            findings.Add(Blocks("name", $"libvirt already has a machine called {request.Name}. Restore with another name, instead of it (--replace), or undefine it first."));
        }
        else
        {
            findings.Add(new RestoreFinding("name", FindingSeverity.Fits, $"libvirt has no machine called {request.Name} here."));
        }
        if (known is not null && known != request.Name)
        {
            findings.Add(Blocks("identity", $"The machine {known} has the UUID {request.Machine.ToUuidString()} that is to be kept. Undefine it first, or restore with a new identity."));
        }
        if (!request.KeepIdentity)
        {
            findings.Add(new RestoreFinding("identity", FindingSeverity.Adapts, "UUID and MAC addresses are made anew; the copy can run beside the original."));
        }
    }

    private static RestoreFinding Blocks(string item, string message) => new(item, FindingSeverity.Blocks, message);
}
