using System.Xml.Linq;
using VirtBackup.Core;
using VirtBackup.Hypervisors.Libvirt.Native;

namespace VirtBackup.Hypervisors.Libvirt;

/// <summary>Compares what a machine is made of with what libvirt says that it can run. Writes nothing.</summary>
internal sealed class DomainComparison(LibvirtConnection connection, RestoreRequest request, List<RestoreFinding> findings)
{
    private const uint FailIncompatible = 1; // VIR_CONNECT_COMPARE_CPU_FAIL_INCOMPATIBLE
    private const int SectorBytesDefault = 512;
    private XElement? _capabilities;

    /// <summary>Asks libvirt whether it can run such a machine.</summary>
    /// <returns>The program that takes the place of the stored one; null: the stored one is there.</returns>
    public async Task<string?> CheckMachineTypeAsync(XElement root, CancellationToken cancellationToken)
    {
        var type = root.Element("os")?.Element("type");
        var (architecture, machine, kind) = (type?.Text("arch"), type?.Text("machine"), root.Text("type"));
        var stored = root.Element("devices")?.Element("emulator")?.Value;
        var program = stored is not null && File.Exists(stored) ? stored : null;
        try
        {
            var text = await connection.QueryAsync(libvirt => LibvirtValues.TakeText(LibvirtCalls.GetDomainCapabilities(libvirt, program, architecture, machine, kind, 0)), cancellationToken);
            _capabilities = BoundedXml.Parse(text, "domainCapabilities");
            Add("machine type", FindingSeverity.Fits, $"libvirt can run the machine type {machine} ({kind}, {architecture}).");
            if (program is not null || stored is null)
            {
                return null;
            }
            var other = _capabilities.Element("path")?.Value;
            Add("program", FindingSeverity.Adapts, $"{other} takes the place of {stored}.");
            return other;
        }
        catch (FaultException fault) when (fault.Reason is not FaultReason.HypervisorUnavailable)
        {
            Add("machine type", FindingSeverity.Blocks, $"This host cannot run the machine type {machine} ({kind}, {architecture}). {fault.Message}");
            return null;
        }
    }

    /// <summary>Compares the definition that the machine would get; after <see cref="CheckMachineTypeAsync"/>.</summary>
    public async Task CompareAsync(XElement root, CancellationToken cancellationToken)
    {
        CompareFirmware(root);
        CompareTpm(root);
        CompareDisks(root.Element("devices")!);
        await CompareCpuAsync(root, cancellationToken);
    }

    private void CompareFirmware(XElement root)
    {
        var os = root.Element("os");
        var loader = os?.Element("loader");
        var chosen = os?.Text("firmware");
        if (chosen is not null && _capabilities is { } capabilities && !HasValue(capabilities.Element("os"), "firmware", chosen))
        {
            Add("firmware", FindingSeverity.Blocks, $"The machine wants the firmware '{chosen}', and libvirt knows none here. Install it (package ovmf).");
        }
        else if (loader is null && chosen is null)
        {
            Add("firmware", FindingSeverity.Fits, "The machine starts with QEMU's own BIOS.");
        }
        else if (loader?.Value is not { Length: > 0 } file)
        {
            Add("firmware", FindingSeverity.Unknown, $"libvirt chooses the firmware ('{chosen}') when the machine is defined; whether it is the one that it had is not known.");
        }
        else if (File.Exists(file))
        {
            Add("firmware", FindingSeverity.Unknown, $"The machine starts with {file}, which is there; whether it is the same build as then is not known, because the recovery point does not hold it.");
        }
        var secure = loader?.Text("secure") == "yes"
            || (os?.Element("firmware")?.Elements("feature") ?? []).Any(feature => feature.Text("name") == "secure-boot" && feature.Text("enabled") == "yes");
        if (!secure)
        {
            Add("secure boot", FindingSeverity.Fits, "The machine's firmware is not one for Secure Boot.");
        }
        else if (_capabilities is { } able && !HasValue(able.Element("os")?.Element("loader"), "secure", "yes"))
        {
            Add("secure boot", FindingSeverity.Blocks, "The machine needs Secure Boot, and libvirt has no firmware for it here with this machine type. Install it (package ovmf).");
        }
        else
        {
            Add("secure boot", _capabilities is null ? FindingSeverity.Unknown : FindingSeverity.Fits,
                _capabilities is null ? "Secure Boot cannot be judged, since libvirt cannot run the machine type." : "libvirt can run machines with Secure Boot.");
        }
    }

    private void CompareTpm(XElement root)
    {
        var model = root.Element("devices")?.Element("tpm");
        if (model is null)
        {
            Add("tpm", FindingSeverity.Fits, "The machine has no TPM.");
        }
        else if (model.Text("backend", "type") is { } kind && _capabilities?.Element("devices")?.Element("tpm") is { } able && (able.Text("supported") != "yes" || !HasValue(able, "backendModel", kind)))
        {
            Add("tpm", FindingSeverity.Blocks, $"libvirt cannot give the machine its TPM ({kind}) here. Install it (package swtpm).");
        }
    }

    private void CompareDisks(XElement devices)
    {
        var disks = devices.Elements("disk").Where(disk => disk.Text("target", "dev") is { } target && request.Disks.Any(restored => restored.Id == DomainDocument.DiskId(request.Machine, target))).ToList();
        var buses = disks.Select(disk => disk.Text("target", "bus")).OfType<string>().Distinct(StringComparer.Ordinal).ToList();
        if (_capabilities?.Element("devices")?.Element("disk") is not { } able)
        {
            Add("disk bus", FindingSeverity.Unknown, "Disk buses cannot be judged, since libvirt cannot run the machine type.");
        }
        else if (buses.Find(bus => !HasValue(able, "bus", bus)) is { } missing)
        {
            Add("disk bus", FindingSeverity.Blocks, $"libvirt cannot attach disks to {missing} here. Choose another bus (--bus).");
        }
        else
        {
            Add("disk bus", FindingSeverity.Fits, $"libvirt attaches disks to {string.Join(", ", buses)} here.");
        }
        foreach (var disk in disks)
        {
            var restored = request.Disks.First(restored => restored.Id == DomainDocument.DiskId(request.Machine, disk.Text("target", "dev")!));
            var sector = int.TryParse(disk.Text("blockio", "logical_block_size"), out var bytes) && bytes > 0 ? bytes : SectorBytesDefault;
            Add("sector size", restored.LengthBytes % sector == 0 ? FindingSeverity.Fits : FindingSeverity.Blocks, restored.LengthBytes % sector == 0
                ? $"Disk {restored.Name} has sectors of {sector} bytes, as it had."
                : $"Disk {restored.Name} has sectors of {sector} bytes, and its {restored.LengthBytes} bytes are no whole number of them: QEMU refuses it. Restore it as an image (--disk {restored.Name} --folder).");
        }
    }

    private async Task CompareCpuAsync(XElement root, CancellationToken cancellationToken)
    {
        var cpu = root.Element("cpu");
        var mode = cpu?.Text("mode") ?? "custom";
        var type = root.Element("os")?.Element("type");
        if (cpu?.Element("model") is null && mode == "custom")
        {
            Add("cpu", FindingSeverity.Fits, "The definition names no processor: the machine gets the machine type's default, as it had.");
            return;
        }
        if (_capabilities is not { } able)
        {
            Add("cpu", FindingSeverity.Unknown, "The processor cannot be judged, since libvirt cannot run the machine type.");
            return;
        }
        if (mode != "custom")
        {
            var supported = (able.Element("cpu")?.Elements("mode") ?? []).Any(candidate => candidate.Text("name") == mode && candidate.Text("supported") == "yes");
            Add("cpu", supported ? FindingSeverity.Unknown : FindingSeverity.Blocks, supported
                ? $"The processor is '{mode}', whatever its host has; the recovery point does not hold what that was."
                : $"The processor is '{mode}', which this host cannot give to such a machine. Restore on a host that can.");
            return;
        }
        try
        {
            await connection.QueryAsync(libvirt => LibvirtValues.Require(LibvirtCalls.CompareCpu(
                libvirt, root.Element("devices")?.Element("emulator")?.Value, type?.Text("arch"), type?.Text("machine"), root.Text("type"), cpu!.ToString(SaveOptions.DisableFormatting), FailIncompatible)), cancellationToken);
            Add("cpu", FindingSeverity.Fits, $"This host gives the processor {cpu!.Element("model")!.Value} every feature that the definition names.");
        }
        catch (FaultException fault) when (fault.InnerException is LibvirtFailure { Code: LibvirtFailure.CpuIncompatible } failure)
        {
            Add("cpu", root.Text("type") == "qemu" ? FindingSeverity.Adapts : FindingSeverity.Blocks, root.Text("type") == "qemu"
                ? $"This host's own processor lacks features of {cpu!.Element("model")!.Value} ({failure.Message}); the machine is emulated, so that QEMU decides what it gets."
                : $"This host lacks features of the processor {cpu!.Element("model")!.Value}: {failure.Message}. Restore on a host that has them.");
        }
        catch (FaultException fault) when (fault.Reason != FaultReason.HypervisorUnavailable)
        {
            Add("cpu", FindingSeverity.Unknown, $"Whether this host has the features of the processor cannot be judged. {fault.Message}");
        }
    }

    private static bool HasValue(XElement? able, string name, string value) =>
        (able?.Elements("enum") ?? []).Any(values => values.Text("name") == name && values.Elements("value").Any(candidate => candidate.Value == value));

    private void Add(string item, FindingSeverity severity, string message) => findings.Add(new RestoreFinding(item, severity, message));
}
