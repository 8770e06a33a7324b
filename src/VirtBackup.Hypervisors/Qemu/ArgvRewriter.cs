using System.Text.Json.Nodes;
using VirtBackup.Core;

namespace VirtBackup.Hypervisors.Qemu;

/// <summary>A disk that is made anew: where its image will be.</summary>
internal sealed record ImageReplacement(string OldFile, string NewFile, string Format, string DiskName);

/// <summary>The arguments of the restored machine, and what was found on the way.</summary>
internal sealed record RewrittenArgv(
    IReadOnlyList<string> Arguments, Id16 Uuid, string QmpSocket, string? GuestAgentSocket, IReadOnlyList<RestoreFinding> Findings);

/// <summary>
/// Adapts a stored command line to a new folder: disks, sockets and log files move there, name and identity are set,
/// options about the old process go. Everything else stays as it was; in the place of the old machine, the paths do, too.
/// </summary>
internal sealed partial class ArgvRewriter(ArgvDocument document, RestoreRequest request, IReadOnlyList<ImageReplacement> images, IEntropy entropy)
{
    private static readonly HashSet<string> Dropped = ["daemonize", "S", "incoming", "loadvm"];
    private static readonly HashSet<string> FileOptions =
        ["kernel", "initrd", "dtb", "shim", "pflash", "cdrom", "fda", "fdb", "hda", "hdb", "hdc", "hdd", "sd", "mtdblock", ""];

    private readonly List<RestoreFinding> findings = [];
    private readonly HashSet<string> taken = new(StringComparer.Ordinal);
    private readonly HashSet<ImageReplacement> placed = [];
    private readonly Dictionary<string, string> formatsByNode = new(StringComparer.Ordinal);
    // Whether its emulator is there is judged with the TPM.
    private readonly string? tpmChannel = TpmDevice.Find(Argv.Parse(document.Arguments))?.Option["chardev"];
    private string? guestAgent;
    private bool hasMonitor;

    /// <summary>Where the TPM's emulator listens instead of where the stored command line says; null: where it does.</summary>
    public (string Old, string New)? TpmSocket { get; init; }

    public RewrittenArgv Rewrite()
    {
        var uuid = request.KeepIdentity ? request.Machine : NewUuid();
        var options = Argv.Parse(document.Arguments).Where(option => !Dropped.Contains(option.Name)).Select(Adapt).ToList();
        options = [.. options.Select(SetFormatAbove)];
        options = new NetworkRemapping(request.Networks, findings).Apply(new BusMapping(request.Disks, findings).Apply(options));
        Set(options, "uuid", uuid.ToUuidString());
        SetName(options);
        if (!hasMonitor)
        {
            options.Add(new ArgvOption("qmp", $"unix:{Escape(QmpSocket)},server=on,wait=off"));
        }
        foreach (var image in images.Where(image => !placed.Contains(image)))
        {
            findings.Add(new RestoreFinding("disk", FindingSeverity.Blocks,
                $"The stored command line does not name the image {image.OldFile} of disk {image.DiskName} in a form that can be adapted."));
        }
        return new RewrittenArgv(Argv.Format(options), uuid, QmpSocket, guestAgent, findings);
    }

    private bool Moves => request.Placement == RestorePlacement.NewFolder;

    private string QmpSocket => Moves ? Path.Combine(request.Folder, "qmp.sock") : document.QmpSocket;

    private ArgvOption Adapt(ArgvOption option) => option.Value is not { } value ? option : option with
    {
        Value = option.Name switch
        {
            "drive" => Drive(value),
            "blockdev" => value.StartsWith('{') ? BlockDevJson(value) : BlockDev(value),
            "chardev" => CharDevice(value),
            "qmp" or "qmp-pretty" or "monitor" or "serial" or "parallel" or "debugcon" => Legacy(value),
            "device" or "nic" or "net" => NetworkCard(option.Name, value),
            "smbios" => Smbios(value),
            "pidfile" or "D" => Place(value),
            "vnc" => Display(value),
            _ when FileOptions.Contains(option.Name) => LoneFile(option.Name, value),
            _ => value,
        },
    };

    private string Drive(string value)
    {
        var text = OptionText.Parse(value);
        var image = FindImage(text["file"]) ?? FindImage(text["file.filename"]);
        if (image is null)
        {
            RequireFile("drive", text["file"] ?? text["file.filename"]);
            return value;
        }
        text.Replace((key, old) => key is "file" or "file.filename" && FindImage(old) is not null ? image.NewFile : null);
        text["file.driver"] = text["file.driver"] is null ? null : "file";
        text[text["driver"] is not null && text["format"] is null ? "driver" : "format"] = image.Format;
        return text.ToString();
    }

    private string BlockDev(string value)
    {
        var text = OptionText.Parse(value);
        ImageReplacement? image = null;
        string protocol = "";
        text.Replace((key, old) =>
        {
            if (key != "filename" && !key.EndsWith(".filename", StringComparison.Ordinal))
            {
                return null;
            }
            if (FindImage(old) is not { } found)
            {
                RequireFile("blockdev", old);
                return null;
            }
            (image, protocol) = (found, key[..^"filename".Length]);
            return found.NewFile;
        });
        if (image is null)
        {
            return value;
        }
        text[$"{protocol}driver"] = "file";
        if (protocol.Length == 0)
        {
            formatsByNode[text["node-name"] ?? ""] = image.Format;
        }
        else
        {
            var above = protocol.LastIndexOf('.', protocol.Length - 2);
            text[$"{protocol[..(above + 1)]}driver"] = image.Format;
            text["backing"] = null;
        }
        return text.ToString();
    }

    private string BlockDevJson(string value)
    {
        if (JsonOption.TryParse(value) is not { } node)
        {
            findings.Add(new RestoreFinding("command line", FindingSeverity.Blocks, "A stored -blockdev option is not a JSON object."));
            return value;
        }
        AdaptNode(node, null);
        return node.ToJsonString();
    }

    private void AdaptNode(JsonObject node, JsonObject? above)
    {
        if (JsonOption.Text(node["filename"]) is { } old)
        {
            if (FindImage(old) is { } image)
            {
                node["filename"] = image.NewFile;
                node["driver"] = "file";
                if (above is null)
                {
                    formatsByNode[JsonOption.Text(node["node-name"]) ?? ""] = image.Format;
                }
                else
                {
                    above["driver"] = image.Format;
                    above.Remove("backing");
                }
            }
            else
            {
                RequireFile("blockdev", old);
            }
        }
        foreach (var child in node.Select(property => property.Value).OfType<JsonObject>().ToList())
        {
            AdaptNode(child, node);
        }
    }

    // A format node that refers to its protocol node by name: "-blockdev driver=qcow2,node-name=a,file=b".
    private ArgvOption SetFormatAbove(ArgvOption option)
    {
        if (option is not { Name: "blockdev", Value: { } value })
        {
            return option;
        }
        if (value.StartsWith('{'))
        {
            if (JsonOption.TryParse(value) is { } node && JsonOption.Text(node["file"]) is { } below && formatsByNode.TryGetValue(below, out var jsonFormat))
            {
                node["driver"] = jsonFormat;
                node.Remove("backing");
                return option with { Value = node.ToJsonString() };
            }
            return option;
        }
        var text = OptionText.Parse(value);
        if (text["file"] is { } name && formatsByNode.TryGetValue(name, out var format))
        {
            text["driver"] = format;
            text["backing"] = null;
            return option with { Value = text.ToString() };
        }
        return option;
    }

    private string CharDevice(string value)
    {
        var text = OptionText.Parse(value);
        if (text["path"] is { } path && text.Head is "socket" or "file" or "pipe")
        {
            if (text.Head == "socket" && !text.IsOn("server"))
            {
                if (TpmSocket is { } tpm && Full(path) == tpm.Old)
                {
                    text["path"] = tpm.New;
                    return text.ToString();
                }
                if (tpmChannel is null || text["id"] != tpmChannel)
                {
                    RequireFile("chardev", path); // another program's socket: a device back end
                }
                return value;
            }
            text["path"] = Place(path);
            return text.ToString();
        }
        return value;
    }

    private string Legacy(string value)
    {
        var mon = value.StartsWith("mon:", StringComparison.Ordinal) ? "mon:" : "";
        var text = OptionText.Parse(value[mon.Length..]);
        foreach (var scheme in new[] { "unix:", "file:", "pipe:" })
        {
            if (text.Head?.StartsWith(scheme, StringComparison.Ordinal) == true && (scheme != "unix:" || text.IsOn("server")))
            {
                text.SetHead(scheme + Place(text.Head[scheme.Length..]));
                return mon + text;
            }
        }
        return value;
    }

    private string NetworkCard(string option, string value)
    {
        if (request.KeepIdentity)
        {
            return value;
        }
        if (value.StartsWith('{'))
        {
            if (JsonOption.TryParse(value) is { } device && (device.ContainsKey("mac") || device.ContainsKey("netdev")))
            {
                device["mac"] = NewMac();
                return device.ToJsonString();
            }
            return value;
        }
        var text = OptionText.Parse(value);
        var card = option switch
        {
            "device" => text["netdev"] is not null || text["mac"] is not null,
            "nic" => text.Head is not "none",
            _ => text.Head is "nic",
        };
        if (card)
        {
            text[option == "net" ? "macaddr" : "mac"] = NewMac();
        }
        return card ? text.ToString() : value;
    }

    private string Smbios(string value)
    {
        var text = OptionText.Parse(value);
        if (request.KeepIdentity || text["uuid"] is null)
        {
            return value;
        }
        text["uuid"] = null; // QEMU then tells the guest the machine's own
        return text.ToString();
    }

    private string Display(string value)
    {
        var text = OptionText.Parse(value);
        if (request.KeepIdentity || text.Head is null or "none")
        {
            return value;
        }
        text.SetHead("unix:" + Place("vnc.sock"));
        findings.Add(new RestoreFinding("display", FindingSeverity.Adapts, $"The VNC display moves from {value} to a socket in the folder, so that it does not collide with the original's."));
        return text.ToString();
    }

    private string LoneFile(string option, string value)
    {
        if (FindImage(value) is { } image)
        {
            return image.NewFile;
        }
        RequireFile(option, value);
        return value;
    }

    private ImageReplacement? FindImage(string? file)
    {
        var image = file is null ? null : images.FirstOrDefault(candidate => Full(candidate.OldFile) == Full(file));
        if (image is not null)
        {
            placed.Add(image);
        }
        return image;
    }

    private string Full(string file) => Path.GetFullPath(file.StartsWith("file:", StringComparison.Ordinal) ? file[5..] : file, document.WorkingDirectory);

    private void RequireFile(string option, string? file)
    {
        if (string.IsNullOrEmpty(file))
        {
            return;
        }
        if (file.Contains("://", StringComparison.Ordinal) || Path.Exists(Full(file)))
        {
            findings.Add(new RestoreFinding("file", option is "drive" or "blockdev" or "" || option.StartsWith("hd", StringComparison.Ordinal) ? FindingSeverity.Adapts : FindingSeverity.Fits,
                $"{file} (-{option}) is not part of the recovery point; the machine uses the file of this host."));
            return;
        }
        findings.Add(new RestoreFinding("file", FindingSeverity.Blocks,
            $"{file} (-{option}) is not part of the recovery point and does not exist on this host. Copy it there first."));
    }

    /// <summary>The place of a socket or file of the old process in the new folder.</summary>
    private string Place(string path)
    {
        var full = Full(path);
        if (full == Path.GetFullPath(document.QmpSocket) && !hasMonitor)
        {
            hasMonitor = true;
            return QmpSocket;
        }
        if (document.GuestAgentSocket is { } agent && full == Path.GetFullPath(agent) && guestAgent is null)
        {
            return guestAgent = Moves ? Path.Combine(request.Folder, "guest-agent.sock") : agent;
        }
        if (!Moves)
        {
            return full;
        }
        var (stem, extension) = (Path.GetFileNameWithoutExtension(full), Path.GetExtension(full));
        var name = stem + extension;
        for (var i = 2; name is "qmp.sock" or "guest-agent.sock" || !taken.Add(name); i++)
        {
            name = $"{stem}-{i}{extension}";
        }
        return Path.Combine(request.Folder, name);
    }

    private void SetName(List<ArgvOption> options)
    {
        var text = OptionText.Parse(options.LastOrDefault(option => option.Name == "name").Value ?? "");
        if (text["guest"] is not null)
        {
            text["guest"] = request.Name;
        }
        else
        {
            text.SetHead(request.Name);
        }
        Set(options, "name", text.ToString());
    }

    private static void Set(List<ArgvOption> options, string name, string value)
    {
        var at = options.FindLastIndex(option => option.Name == name);
        if (at >= 0)
        {
            options[at] = new ArgvOption(name, value);
        }
        else
        {
            options.Add(new ArgvOption(name, value));
        }
    }

    private Id16 NewUuid()
    {
        Span<byte> bytes = stackalloc byte[Id16.Size];
        entropy.Fill(bytes);
        bytes[6] = (byte)((bytes[6] & 0x0f) | 0x40); // RFC 9562 section 5.4: version 4
        bytes[8] = (byte)((bytes[8] & 0x3f) | 0x80);
        return Id16.Read(bytes);
    }

    private string NewMac()
    {
        Span<byte> bytes = stackalloc byte[3];
        entropy.Fill(bytes);
        return $"52:54:00:{bytes[0]:x2}:{bytes[1]:x2}:{bytes[2]:x2}";
    }

    private static string Escape(string path) => path.Replace(",", ",,", StringComparison.Ordinal);
}
