using System.Text.Json;
using System.Text.Json.Nodes;
using VirtBackup.Hypervisors.Qemu.Comparing;

namespace VirtBackup.Hypervisors.Qemu;

/// <summary>Describes a running machine: natively by how its process was started, neutrally by what QMP tells.</summary>
internal static class MachineDescriber
{
    /// <param name="stateFolder">Where moves of the machine's disks are remembered; null: nowhere.</param>
    public static async Task<MachineConfiguration> DescribeAsync(
        QmpClient qmp, QemuMachine machine, IReadOnlyList<QemuDisk> disks, string? stateFolder, CancellationToken cancellationToken)
    {
        var process = await QemuProcess.ReadAsync(qmp.ReadPeer(), qmp.SocketPath, cancellationToken);
        var (arguments, named) = await LaterDisks.NameAsync(qmp, Moving.MovedDisks.Apply(stateFolder, machine.Uuid, process, disks), disks, cancellationToken);
        var native = new ArgvDocument(process.Executable, process.WorkingDirectory, arguments, named, machine.QmpSocket, machine.GuestAgentSocket,
            TpmDevice.Find(Argv.Parse(arguments))?.FindEmulator(process.WorkingDirectory) is { } tpm ? new ArgvTpm(tpm.StateFolder, tpm.Arguments) : null);
        var memory = await qmp.ExecuteAsync("query-memory-size-summary", null, cancellationToken);
        var cpus = await qmp.ExecuteAsync("query-cpus-fast", null, cancellationToken);
        var version = (await qmp.ExecuteAsync("query-version", null, cancellationToken)).Field("qemu");
        var type = await qmp.ExecuteAsync("qom-get", new JsonObject { ["path"] = "/machine", ["property"] = "type" }, cancellationToken);
        var options = Argv.Parse(process.Arguments);
        var neutral = new JsonObject
        {
            ["uuid"] = machine.Uuid.ToUuidString(),
            ["name"] = machine.Name,
            ["architecture"] = cpus.Items().FirstOrDefault().FindText("target"),
            ["machineType"] = MachineType(JsonFields.AsText(type, "type")),
            ["processors"] = cpus.Items().Count(),
            ["memoryBytes"] = memory.Number("base-memory") + (memory.Find("plugged-memory") is null ? 0 : memory.Number("plugged-memory")),
            ["firmware"] = Firmware(options),
            ["hypervisor"] = $"QEMU {version.Number("major")}.{version.Number("minor")}.{version.Number("micro")}",
            ["disks"] = new JsonArray([.. disks.Select(Describe)]),
            ["networkCards"] = new JsonArray([.. NetworkCards(options)]),
            ["facts"] = await MachineFacts.ReadAsync(qmp, cpus, options, process.WorkingDirectory, disks, cancellationToken),
        };
        return new MachineConfiguration(machine.Name, JsonSerializer.SerializeToElement(neutral), ArgvDocument.Kind, native.Write());
    }

    private static string MachineType(string type) =>
        type.EndsWith("-machine", StringComparison.Ordinal) ? type[..^"-machine".Length] : type;

    private static JsonNode Describe(QemuDisk disk) => new JsonObject
    {
        ["id"] = disk.Summary.Id.ToString(), ["name"] = disk.Summary.Name, ["device"] = disk.DeviceType, ["lengthBytes"] = disk.Summary.LengthBytes,
        ["format"] = disk.Summary.Format, ["skipReason"] = disk.Summary.SkipReason,
    };

    private static string Firmware(IReadOnlyList<ArgvOption> options)
    {
        foreach (var option in options)
        {
            if (option.Name is "bios" or "pflash" || (option.Name == "drive" && OptionText.Parse(option.Value ?? "")["if"] == "pflash")
                || (option.Name is "machine" or "M" && OptionText.Parse(option.Value ?? "")["pflash0"] is not null))
            {
                return option.Name == "bios" ? option.Value ?? "bios" : "uefi";
            }
        }
        return "bios";
    }

    private static IEnumerable<JsonNode> NetworkCards(IReadOnlyList<ArgvOption> options)
    {
        foreach (var option in options.Where(option => option is { Name: "device" or "nic" or "net", Value: not null } && !option.Value!.StartsWith('{')))
        {
            var text = OptionText.Parse(option.Value!);
            if (option.Name == "device" ? text["netdev"] is not null || text["mac"] is not null : text.Head is not "none" and not "user" || option.Name == "nic")
            {
                yield return new JsonObject { ["model"] = option.Name == "device" ? text.Head ?? text["driver"] : text["model"], ["mac"] = text["mac"] ?? text["macaddr"] };
            }
        }
    }
}
