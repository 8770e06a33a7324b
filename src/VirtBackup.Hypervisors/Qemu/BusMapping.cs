namespace VirtBackup.Hypervisors.Qemu;

/// <summary>Attaches disks of a stored command line to another bus. Not safe for concurrent use.</summary>
internal sealed class BusMapping(IReadOnlyList<RestoreDisk> disks, List<RestoreFinding> findings)
{
    private const string ScsiController = "virtbackup-scsi";
    private const string AhciController = "virtbackup-ahci";
    private const int AhciPorts = 6;

    // What every model of a disk understands; the rest belongs to the model that it was.
    private static readonly HashSet<string> Kept =
        ["id", "drive", "bootindex", "serial", "logical_block_size", "physical_block_size", "min_io_size", "opt_io_size", "discard_granularity", "write-cache", "share-rw", "rerror", "werror"];

    private int _ahciPorts;

    public List<ArgvOption> Apply(List<ArgvOption> options)
    {
        var result = new List<ArgvOption>(options);
        foreach (var disk in disks.Where(disk => disk.Bus is not null))
        {
            Apply(result, disk, disk.Bus!);
        }
        return result;
    }

    private void Apply(List<ArgvOption> options, RestoreDisk disk, string bus)
    {
        var at = options.FindIndex(option => option.Name == "device" && Find(option.Value, "id") == disk.Name && Find(option.Value, "drive") is not null);
        if (at < 0)
        {
            findings.Add(new RestoreFinding("disk bus", FindingSeverity.Blocks,
                $"The stored command line does not attach disk {disk.Name} by a -device option of its own; its bus cannot be changed."));
            return;
        }
        var onQ35 = options.Exists(option => option.Name is "machine" or "M" && option.Value?.Contains("q35", StringComparison.Ordinal) == true);
        var (model, controller, place) = bus switch
        {
            "virtio" => ("virtio-blk-pci", null, null),
            "scsi" => ("scsi-hd", "virtio-scsi-pci,id=" + ScsiController, ScsiController + ".0"),
            "sata" when !onQ35 => ("ide-hd", "ich9-ahci,id=" + AhciController, $"{AhciController}.{_ahciPorts++}"),
            "ide" or "sata" => ("ide-hd", null, (string?)null),
            _ => ("", null, null),
        };
        if (model.Length == 0 || _ahciPorts > AhciPorts)
        {
            findings.Add(new RestoreFinding("disk bus", FindingSeverity.Blocks, model.Length == 0
                ? $"Disk {disk.Name} cannot be attached to '{bus}'; virtio, scsi, ide and sata are possible." : $"More than {AhciPorts} disks cannot be attached to one SATA controller."));
            return;
        }
        findings.Add(new RestoreFinding("disk bus", FindingSeverity.Adapts, $"Disk {disk.Name} becomes a {model}; the guest needs a driver for it."));
        options[at] = new ArgvOption("device", Rewrite(options[at].Value!, model, place));
        if (controller is not null && !options.Contains(new ArgvOption("device", controller)))
        {
            options.Insert(at, new ArgvOption("device", controller));
        }
    }

    private static string Rewrite(string device, string model, string? bus)
    {
        if (device.StartsWith('{') && JsonOption.TryParse(device) is { } json)
        {
            foreach (var key in json.Select(property => property.Key).Where(key => !Kept.Contains(key)).ToList())
            {
                json.Remove(key);
            }
            json["driver"] = model;
            if (bus is not null)
            {
                json["bus"] = bus;
            }
            return json.ToJsonString();
        }
        var text = OptionText.Parse(device);
        foreach (var key in text.Parts.Select(part => part.Key).OfType<string>().Where(key => !Kept.Contains(key)).ToList())
        {
            text[key] = null;
        }
        text.SetHead(model);
        text["bus"] = bus;
        return text.ToString();
    }

    private static string? Find(string? device, string key) =>
        device is null ? null : device.StartsWith('{') ? JsonOption.Text(JsonOption.TryParse(device)?[key]) : OptionText.Parse(device)[key];
}
