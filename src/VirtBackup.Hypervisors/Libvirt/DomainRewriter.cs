using System.Globalization;
using System.Xml.Linq;
using VirtBackup.Core;

namespace VirtBackup.Hypervisors.Libvirt;

/// <summary>A disk that is made anew: where its image will be.</summary>
internal sealed record NewImage(string Target, string Path, string Format);

/// <summary>
/// Adapts a stored domain document: disks and firmware variables move to where they are restored, identity and name are set,
/// what belonged to the old run goes. In a folder of its own a machine also gets its sockets and log files there. Everything
/// else stays as it was. Not safe for concurrent use.
/// </summary>
/// <param name="name">The machine's name.</param>
/// <param name="variables">Where its firmware variables are restored; null: they are not in the recovery point.</param>
internal sealed class DomainRewriter(
    RestoreRequest request, string name, IReadOnlyList<NewImage> images, string? variables, IEntropy entropy, List<RestoreFinding> findings)
{
    private const string NotStored = "The firmware's variables are not in the recovery point: boot entries and Secure Boot keys are those of the template.";
    private readonly Dictionary<string, string> moved = new(StringComparer.Ordinal);

    public Id16 Uuid { get; } = request.KeepIdentity ? request.Machine : NewUuid(entropy);

    private bool InFolder => request.Placement == RestorePlacement.NewFolder;

    /// <param name="emulator">The program to use; null: the stored one.</param>
    public XElement Rewrite(XElement stored, string? emulator)
    {
        var root = new XElement(stored);
        root.Attribute("id")?.Remove();
        Set(root, "name", name);
        Set(root, "uuid", Uuid.ToUuidString());
        foreach (var entry in root.Elements("sysinfo").Elements("system").Elements("entry").Where(entry => entry.Text("name") == "uuid"))
        {
            entry.Value = Uuid.ToUuidString();
        }
        RenewGeneration(root);
        foreach (var label in root.Elements("seclabel").Where(label => label.Text("type") == "dynamic"))
        {
            label.Elements().Where(child => child.Name == "label" || child.Name == "imagelabel").Remove();
        }
        MoveVariables(root);
        var devices = root.Element("devices") ?? throw FaultException.Malformed("The stored domain has no devices.");
        if (emulator is not null)
        {
            Set(devices, "emulator", emulator);
        }
        foreach (var disk in devices.Elements("disk").ToList())
        {
            Rewrite(disk);
        }
        foreach (var card in devices.Elements("interface"))
        {
            Rewrite(card, renew: !request.KeepIdentity);
        }
        foreach (var device in devices.Elements().Where(device => device.Name.LocalName is "serial" or "parallel" or "console" or "channel"))
        {
            MoveCharacterDevice(device);
        }
        TellAboutRest(root, devices);
        return root;
    }

    /// <summary>The definition that a machine has, for a restore that leaves it: single disks may become other images.</summary>
    public XElement Keep(XElement existing)
    {
        var root = new XElement(existing);
        if (!request.DisksOnly)
        {
            RenewGeneration(root);
        }
        foreach (var disk in root.Element("devices")?.Elements("disk") ?? [])
        {
            if (request.Placement == RestorePlacement.Replace && images.FirstOrDefault(image => image.Target == disk.Text("target", "dev")) is { } image)
            {
                Point(disk, image);
            }
        }
        return root;
    }

    private void Rewrite(XElement disk)
    {
        var target = disk.Text("target", "dev");
        if (images.FirstOrDefault(image => image.Target == target) is { } image)
        {
            Point(disk, image);
            return;
        }
        disk.Elements("backingStore").Remove();
        var path = disk.Text("source", "file") ?? disk.Text("source", "dev");
        if (path is null || File.Exists(path))
        {
            findings.Add(new RestoreFinding("disk", FindingSeverity.Adapts,
                path is null ? $"Disk {target} is not in the recovery point; it stays as it was configured." : $"Disk {target} is not in the recovery point; {path} of this host is used."));
        }
        else if (disk.Text("device") is "cdrom" or "floppy")
        {
            disk.Elements("source").Remove();
            findings.Add(new RestoreFinding("disk", FindingSeverity.Adapts, $"The medium {path} of drive {target} is not on this host: the drive will be empty."));
        }
        else
        {
            findings.Add(new RestoreFinding("disk", FindingSeverity.Blocks, $"Disk {target} is not in the recovery point, and its {path} is not on this host. Bring it here first."));
        }
    }

    private static void Point(XElement disk, NewImage image)
    {
        disk.SetAttributeValue("type", "file");
        disk.Elements().Where(child => child.Name.LocalName is "source" or "backingStore" or "mirror" or "encryption" or "auth").Remove();
        disk.AddFirst(new XElement("source", new XAttribute("file", image.Path)));
        if (disk.Element("driver") is not { } driver)
        {
            driver = new XElement("driver", new XAttribute("name", "qemu"));
            disk.AddFirst(driver);
        }
        driver.SetAttributeValue("type", image.Format);
    }

    private void Rewrite(XElement card, bool renew)
    {
        // The host's end of a tap device is named by libvirt.
        card.Elements("target").Where(target => target.Text("dev")?.StartsWith("vnet", StringComparison.Ordinal) == true).Remove();
        if (renew)
        {
            card.Elements("mac").Remove();
            Span<byte> bytes = stackalloc byte[3];
            entropy.Fill(bytes);
            card.AddFirst(new XElement("mac", new XAttribute("address", string.Create(CultureInfo.InvariantCulture, $"52:54:00:{bytes[0]:x2}:{bytes[1]:x2}:{bytes[2]:x2}"))));
        }
    }

    private void MoveCharacterDevice(XElement device)
    {
        if (InFolder && device.Element("log") is { } log && log.Text("file") is { } file)
        {
            log.SetAttributeValue("file", Move(file));
        }
        if (device.Element("source") is not { } source || source.Text("path") is not { } path)
        {
            return;
        }
        if (path.Contains("/channel/target/domain-", StringComparison.Ordinal))
        {
            source.Remove(); // libvirt's own choice, made anew for every machine
        }
        else if (InFolder && (device.Text("type") == "file" || (device.Text("type") == "unix" && source.Text("mode") == "bind")))
        {
            source.SetAttributeValue("path", Move(path));
        }
    }

    // A serial device and the console that stands for it name the same file.
    private string Move(string path)
    {
        if (!moved.TryGetValue(path, out var place))
        {
            var name = Path.GetFileName(path);
            place = Path.Combine(request.Folder, moved.Values.Any(taken => Path.GetFileName(taken) == name) ? $"{moved.Count}-{name}" : name);
            moved.Add(path, place);
        }
        return place;
    }

    private void MoveVariables(XElement root)
    {
        if (variables is not null)
        {
            FirmwareVariables.SetPath(root, variables);
            return;
        }
        if (FirmwareVariables.PathOf(root) is not { } path)
        {
            if (FirmwareVariables.AreChosen(root))
            {
                findings.Add(new RestoreFinding("firmware", FindingSeverity.Adapts, NotStored));
            }
            return;
        }
        if (request.KeepIdentity && File.Exists(path))
        {
            findings.Add(new RestoreFinding("firmware", FindingSeverity.Adapts, $"The firmware's variables are not in the recovery point; {path} of this host is used."));
            return;
        }
        if (InFolder)
        {
            FirmwareVariables.SetPath(root, Path.Combine(request.Folder, FirmwareVariables.FileName));
        }
        findings.Add(new RestoreFinding("firmware", FindingSeverity.Adapts, NotStored));
    }

    // A guest that knows generations must learn that it was set back in time.
    private void RenewGeneration(XElement root)
    {
        if (root.Element("genid") is { } generation)
        {
            generation.Value = NewUuid(entropy).ToUuidString();
            findings.Add(new RestoreFinding("generation", FindingSeverity.Adapts, "The generation id is made anew, so that the guest notices the restore."));
        }
    }

    private void TellAboutRest(XElement root, XElement devices)
    {
        foreach (var device in devices.Elements("hostdev"))
        {
            findings.Add(new RestoreFinding("host device", FindingSeverity.Adapts, $"The machine keeps its host device ({device.Text("type") ?? "unknown"}); this host must have it, free, when the machine starts."));
        }
        if (devices.Element("tpm") is not null)
        {
            findings.Add(new RestoreFinding("TPM", FindingSeverity.Adapts, "The TPM's contents are not in the recovery point: secrets that are sealed to it (disk encryption) need their recovery keys."));
        }
        var os = root.Element("os");
        foreach (var path in new[] { os?.Element("kernel")?.Value, os?.Element("initrd")?.Value, os?.Element("loader")?.Value }.OfType<string>().Where(path => path.StartsWith('/') && !File.Exists(path)))
        {
            findings.Add(new RestoreFinding("file", FindingSeverity.Blocks, $"The machine starts from {path}, which is not on this host. Bring it here first."));
        }
    }

    private static void Set(XElement parent, string name, string value)
    {
        if (parent.Element(name) is { } element)
        {
            element.Value = value;
        }
        else
        {
            parent.AddFirst(new XElement(name, value));
        }
    }

    // Version 4, variant 1 (RFC 9562): libvirt takes any, but the number should not lie about how it was made.
    private static Id16 NewUuid(IEntropy entropy)
    {
        Span<byte> bytes = stackalloc byte[Id16.Size];
        entropy.Fill(bytes);
        bytes[6] = (byte)((bytes[6] & 0x0f) | 0x40);
        bytes[8] = (byte)((bytes[8] & 0x3f) | 0x80);
        return Id16.Read(bytes);
    }
}
