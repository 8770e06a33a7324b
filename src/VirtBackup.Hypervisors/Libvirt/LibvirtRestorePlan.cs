using System.Text;
using System.Xml.Linq;
using VirtBackup.Core;
using VirtBackup.Hypervisors.Images;
using VirtBackup.Hypervisors.Libvirt.Native;

namespace VirtBackup.Hypervisors.Libvirt;

/// <summary>What a restore will do, worked out before a byte moves; and everything found on the way.</summary>
internal sealed record LibvirtRestorePlan(LibvirtConnection Connection, Id16 Uuid, string Xml, IReadOnlyList<NewImage> Images, IReadOnlyList<RestoreFinding> Findings)
{
    public required DomainTpmRestore Tpm { get; init; }

    public bool Refused => Findings.Any(finding => finding.Severity == FindingSeverity.Blocks);
}

/// <summary>Compares a stored machine with this host and its libvirt. Writes nothing.</summary>
internal sealed class LibvirtRestorePlanner(LibvirtContext context, LibvirtConnection connection)
{
    private readonly List<RestoreFinding> findings = [];

    public async Task<LibvirtRestorePlan> PlanAsync(RestoreRequest request, CancellationToken cancellationToken)
    {
        if (request.Configuration.NativeKind != LibvirtDescriber.Kind)
        {
            throw new FaultException(FaultReason.Unsupported,
                $"The recovery point was made on the platform '{request.HypervisorKind}' and holds a '{request.Configuration.NativeKind}' configuration; this driver restores '{LibvirtDescriber.Kind}'.");
        }
        var document = DomainDocument.Parse(Encoding.UTF8.GetString(request.Configuration.Native.Span));
        var images = ChooseImages(request, document);
        findings.AddRange(RestoreFolder.Check(request, isMachine: true));
        await CheckIdentityAsync(request, cancellationToken);
        var emulator = await CheckMachineTypeAsync(document.Root, cancellationToken);
        foreach (var card in document.Root.Element("devices")?.Elements("interface") ?? [])
        {
            await CheckNetworkAsync(card, cancellationToken);
        }
        var rewriter = new DomainRewriter(request, images, context.Entropy);
        var xml = rewriter.Rewrite(document.Root, emulator);
        findings.AddRange(rewriter.Findings);
        var tpm = new DomainTpmRestore(context, connection, request, document.Root);
        findings.Add(await tpm.CheckAsync(cancellationToken));
        return new LibvirtRestorePlan(connection, rewriter.Uuid, xml, images, findings) { Tpm = tpm };
    }

    private List<NewImage> ChooseImages(RestoreRequest request, DomainDocument document)
    {
        var images = new List<NewImage>();
        var names = new ImageFileNames();
        foreach (var disk in request.Disks)
        {
            if (disk.Format is not ("qcow2" or "raw"))
            {
                findings.Add(Blocks("disk format", $"Disk {disk.Name} is to be made as '{disk.Format}'; qcow2 and raw are possible."));
            }
            if (disk.LengthBytes is < 0 or > Limits.DiskBytesMax || disk.LengthBytes % 512 != 0)
            {
                findings.Add(Blocks("disk", $"Disk {disk.Name} has {disk.LengthBytes} bytes; a disk has whole sectors of 512 bytes."));
            }
            if (document.Disks.FirstOrDefault(candidate => DomainDocument.DiskId(request.Machine, candidate.Target) == disk.Id) is not { } stored)
            {
                findings.Add(Blocks("disk", $"The stored configuration does not know disk {disk.Name}."));
                continue;
            }
            images.Add(new NewImage(stored.Target, Path.Combine(request.Folder, $"{names.Add(disk.Name)}.{disk.Format}"), disk.Format));
        }
        return images;
    }

    private async Task CheckIdentityAsync(RestoreRequest request, CancellationToken cancellationToken)
    {
        var (named, known) = await connection.QueryAsync(libvirt =>
        {
            using var byName = Domains.TryFind(libvirt, request.Name);
            using var byUuid = request.KeepIdentity ? Domains.TryFind(libvirt, request.Machine) : null;
            return (byName is not null, byUuid is null ? null : Domains.NameOf(byUuid));
        }, cancellationToken);
        if (named)
        {
            findings.Add(Blocks("name", $"libvirt already has a machine called {request.Name}. Restore with another name, or undefine it first."));
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

    /// <summary>Asks libvirt whether it can run such a machine.</summary>
    /// <returns>The program that takes the place of the stored one; null: the stored one is there.</returns>
    private async Task<string?> CheckMachineTypeAsync(XElement root, CancellationToken cancellationToken)
    {
        var type = root.Element("os")?.Element("type");
        var (architecture, machine, kind) = (type?.Text("arch"), type?.Text("machine"), root.Text("type"));
        var stored = root.Element("devices")?.Element("emulator")?.Value;
        var program = stored is not null && File.Exists(stored) ? stored : null;
        try
        {
            var text = await connection.QueryAsync(libvirt => LibvirtValues.TakeText(LibvirtCalls.GetDomainCapabilities(libvirt, program, architecture, machine, kind, 0)), cancellationToken);
            findings.Add(new RestoreFinding("machine type", FindingSeverity.Fits, $"libvirt can run the machine type {machine} ({kind}, {architecture})."));
            if (program is not null || stored is null)
            {
                return null;
            }
            var other = BoundedXml.Parse(text, "domainCapabilities").Element("path")?.Value;
            findings.Add(new RestoreFinding("program", FindingSeverity.Adapts, $"{other} takes the place of {stored}."));
            return other;
        }
        catch (FaultException fault) when (fault.Reason is not FaultReason.HypervisorUnavailable)
        {
            findings.Add(Blocks("machine type", $"This host cannot run the machine type {machine} ({kind}, {architecture}). {fault.Message}"));
            return null;
        }
    }

    private async Task CheckNetworkAsync(XElement card, CancellationToken cancellationToken)
    {
        if (card.Text("type") == "bridge" && card.Text("source", "bridge") is { } bridge)
        {
            findings.Add(Directory.Exists($"/sys/class/net/{Path.GetFileName(bridge)}")
                ? new RestoreFinding("network", FindingSeverity.Fits, $"The bridge {bridge} is there.")
                : Blocks("network", $"This host has no bridge {bridge}. Make it first."));
        }
        if (card.Text("type") != "network" || card.Text("source", "network") is not { } name)
        {
            return;
        }
        var active = await connection.QueryAsync(libvirt =>
        {
            using var network = LibvirtCalls.FindNetwork(libvirt, name);
            return network.IsInvalid ? (bool?)null : LibvirtCalls.IsActive(network) == 1;
        }, cancellationToken);
        findings.Add(active switch
        {
            null => Blocks("network", $"libvirt has no network '{name}' here. Define it first (virsh net-define)."),
            false => Blocks("network", $"The network '{name}' is not active. Start it first (virsh net-start {name})."),
            _ => new RestoreFinding("network", FindingSeverity.Fits, $"The network '{name}' is there."),
        });
    }

    private static RestoreFinding Blocks(string item, string message) => new(item, FindingSeverity.Blocks, message);
}
