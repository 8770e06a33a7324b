using System.Text.Json;
using System.Text.Json.Nodes;
using VirtBackup.Core;
using VirtBackup.Hypervisors;

namespace VirtBackup.Proofs.PlanCalibration.Incompatibilities;

/// <summary>A machine as a recovery point of the QEMU driver holds it, and how it is to be restored: to be altered piece by piece.</summary>
internal sealed class StoredMachine
{
    private const long DiskBytes = 64 << 20;
    private const string Disk = "disk-root";
    private static readonly Id16 DiskId = new(7);

    public StoredMachine(string folder, string machineType)
    {
        Scratch = folder;
        Folder = Path.Combine(folder, "new");
        Arguments =
        [
            "-machine", machineType, "-m", "256", "-nodefaults", "-display", "none", "-drive", $"file={folder}/old.qcow2,format=qcow2,if=none,id=root",
            "-device", "virtio-blk-pci,drive=root,id=disk-root", "-netdev", "user,id=net0", "-device", "virtio-net-pci,netdev=net0", "-qmp", $"unix:{folder}/old.sock,server=on,wait=off",
        ];
        Neutral = new JsonObject
        {
            ["machineType"] = machineType,
            ["facts"] = new JsonObject
            {
                ["version"] = 1,
                ["cpu"] = new JsonObject { ["model"] = "qemu64", ["features"] = new JsonArray("sse2", "cmov") },
                ["disks"] = new JsonArray(new JsonObject { ["id"] = DiskId.ToString(), ["logicalSectorBytes"] = 512, ["physicalSectorBytes"] = 512 }),
            },
        };
    }

    /// <summary>A folder of the trial's own.</summary>
    public string Scratch { get; }

    public List<string> Arguments { get; }

    public JsonObject Neutral { get; }

    public JsonObject Facts => Neutral["facts"]!.AsObject();

    public string Executable { get; set; } = "/usr/bin/qemu-system-x86_64";

    public string Folder { get; set; }

    public string Name { get; set; } = "restored";

    public Id16 Uuid { get; set; } = new(9);

    public bool KeepIdentity { get; set; }

    public string Format { get; set; } = "qcow2";

    public long LengthBytes { get; set; } = DiskBytes;

    public long DataBytes { get; set; } = 1 << 20;

    public void Add(params string[] arguments) => Arguments.AddRange(arguments);

    public void SetMachineType(string type) => Arguments[1] = type;

    public RestoreRequest ToRequest()
    {
        var native = JsonSerializer.SerializeToUtf8Bytes(new
        {
            executable = Executable, workingDirectory = "/", arguments = Arguments, qmpSocket = $"{Scratch}/old.sock", guestAgentSocket = (string?)null,
            disks = new[] { new { id = DiskId.ToString(), name = Disk, file = $"{Scratch}/old.qcow2", format = "qcow2", captured = true } },
        });
        var configuration = new MachineConfiguration(Name, JsonSerializer.SerializeToElement(Neutral), "qemu-argv", native);
        return new RestoreRequest(Uuid, new Id16(11), "qemu", configuration, [new RestoreDisk(DiskId, Disk, LengthBytes, Format, DataBytes)], Folder, Name)
        {
            KeepIdentity = KeepIdentity,
        };
    }
}

/// <summary>Something that does not fit.</summary>
/// <param name="Name">For people.</param>
/// <param name="Item">By which it has to be reported.</param>
/// <param name="Severity">How it has to be judged.</param>
/// <param name="Plant">Puts it into the point or the host.</param>
/// <param name="IsAlone">It takes away what others are judged by.</param>
internal sealed record Incompatibility(string Name, string Item, FindingSeverity Severity, Action<StoredMachine> Plant, bool IsAlone = false);
