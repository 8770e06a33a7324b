using System.Globalization;
using System.Security.Cryptography;
using System.Text.Json;
using System.Text.Json.Nodes;
using VirtBackup.Core;

namespace VirtBackup.Hypervisors.Qemu.Comparing;

/// <summary>
/// What a restore is compared by, beyond what the command line tells; part of the neutral description as <c>facts</c>, with a
/// version of its own. Points made before it lack it, and each fact may be missing where QEMU did not tell.
/// </summary>
internal static class MachineFacts
{
    public const int Version = 1;
    private const int FirmwareBytesMax = 64 << 20;

    public static async Task<JsonObject> ReadAsync(
        QmpClient qmp, JsonElement cpus, IReadOnlyList<ArgvOption> options, string workingDirectory, IReadOnlyList<QemuDisk> disks, CancellationToken cancellationToken)
    {
        var facts = new JsonObject
        {
            ["version"] = Version,
            ["accelerator"] = await ReadAcceleratorAsync(qmp, cancellationToken),
            ["cpu"] = await CpuFacts.ReadAsync(qmp, cpus, options, cancellationToken),
        };
        var firmware = FirmwareChoice.Of(options);
        if (firmware.Code is { } code)
        {
            facts["firmware"] = new JsonObject { ["code"] = code, ["codeSha256"] = TryHash(Path.GetFullPath(code, workingDirectory)), ["secureBoot"] = firmware.IsSecure };
        }
        var sectors = new JsonArray();
        foreach (var disk in disks.Where(disk => disk.Captured))
        {
            sectors.Add((JsonNode)new JsonObject
            {
                ["id"] = disk.Summary.Id.ToString(), ["bus"] = disk.DeviceType,
                ["logicalSectorBytes"] = await FindNumberAsync(qmp, disk.DevicePath, "logical_block_size", cancellationToken),
                ["physicalSectorBytes"] = await FindNumberAsync(qmp, disk.DevicePath, "physical_block_size", cancellationToken),
            });
        }
        facts["disks"] = sectors;
        return facts;
    }

    /// <summary>SHA-256 of a firmware file, hex; null where it cannot be read.</summary>
    public static string? TryHash(string file)
    {
        try
        {
            using var stream = File.OpenRead(file);
            return stream.Length <= FirmwareBytesMax ? Convert.ToHexStringLower(SHA256.HashData(stream)) : null;
        }
        catch (Exception failure) when (failure is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }

    private static async Task<string> ReadAcceleratorAsync(QmpClient qmp, CancellationToken cancellationToken) =>
        (await qmp.ExecuteAsync("query-kvm", null, cancellationToken)).Flag("enabled") ? "kvm" : "tcg";

    private static async Task<long?> FindNumberAsync(QmpClient qmp, string? path, string property, CancellationToken cancellationToken)
    {
        try
        {
            var value = path is null ? default : await qmp.ExecuteAsync("qom-get", new JsonObject { ["path"] = path, ["property"] = property }, cancellationToken);
            return value.ValueKind == JsonValueKind.Number && value.TryGetInt64(out var number) && number > 0 ? number : null;
        }
        catch (FaultException fault) when (fault.Reason == FaultReason.FailedPrecondition)
        {
            return null; // this device has no such property
        }
    }
}

/// <summary>The facts of a stored machine; what is missing or of another shape is null.</summary>
internal sealed class StoredFacts
{
    private readonly JsonElement? neutral;
    private readonly JsonElement? facts;

    public StoredFacts(MachineConfiguration configuration)
    {
        neutral = configuration.Neutral;
        facts = Member(neutral, "facts") is { } found && Member(found, "version") is { ValueKind: JsonValueKind.Number } version
            && version.TryGetInt32(out var number) && number is >= 1 and <= MachineFacts.Version ? found : null;
    }

    /// <summary>The machine type as QEMU resolved it: <c>pc-q35-7.2</c>.</summary>
    public string? MachineType => Text(neutral, "machineType");

    /// <summary><c>kvm</c> or <c>tcg</c>.</summary>
    public string? Accelerator => Text(facts, "accelerator");

    /// <summary>Of the QEMU that ran the machine; patch levels do not count.</summary>
    public Version? ProgramVersion => Text(neutral, "hypervisor") is { } text && Version.TryParse(text.Split(' ')[^1], out var version) ? new Version(version.Major, version.Minor) : null;

    public long? MemoryBytes => Member(neutral, "memoryBytes") is { ValueKind: JsonValueKind.Number } value && value.TryGetInt64(out var bytes) && bytes > 0 ? bytes : null;

    public string? CpuModel => Text(Member(facts, "cpu"), "model");

    public IReadOnlySet<string>? CpuFeatures =>
        Member(Member(facts, "cpu"), "features") is { ValueKind: JsonValueKind.Array } list
            ? list.EnumerateArray().Select(TextOf).OfType<string>().ToHashSet(StringComparer.Ordinal) : null;

    public string? FirmwareSha256 => Text(Member(facts, "firmware"), "codeSha256");

    /// <summary>Logical and physical sector of a disk as its guest knows them.</summary>
    public (long Logical, long? Physical)? SectorsOf(string disk)
    {
        if (Member(facts, "disks") is not { ValueKind: JsonValueKind.Array } list)
        {
            return null;
        }
        foreach (var item in list.EnumerateArray())
        {
            if (Text(item, "id") == disk && Number(item, "logicalSectorBytes") is { } logical)
            {
                return (logical, Number(item, "physicalSectorBytes"));
            }
        }
        return null;
    }

    private static JsonElement? Member(JsonElement? element, string name) =>
        element is { ValueKind: JsonValueKind.Object } value && value.TryGetProperty(name, out var member) && member.ValueKind != JsonValueKind.Null ? member : null;

    private static string? Text(JsonElement? element, string name) => Member(element, name) is { } value ? TextOf(value) : null;

    private static string? TextOf(JsonElement value)
    {
        try
        {
            return value.ValueKind == JsonValueKind.String ? value.GetString() : null;
        }
        catch (InvalidOperationException)
        {
            return null; // not valid Unicode
        }
    }

    private static long? Number(JsonElement? element, string name) =>
        Member(element, name) is { ValueKind: JsonValueKind.Number } value && value.TryGetInt64(out var number) && number is > 0 and <= int.MaxValue ? number : null;
}

/// <summary>The firmware that the command line names.</summary>
/// <param name="Code">The file of its code, as written; null: QEMU's own BIOS.</param>
/// <param name="Variables">The file of its variables; null: none that lasts.</param>
/// <param name="IsSecure">Built for Secure Boot: its variables are out of the guest's reach.</param>
internal sealed record FirmwareChoice(string? Code, string? Variables, bool IsSecure)
{
    private static readonly string[] SecureNames = ["secboot", "secure", ".ms."];

    public static FirmwareChoice Of(IReadOnlyList<ArgvOption> options)
    {
        var flash = new SortedDictionary<int, string>();
        string? bios = null;
        var secure = false;
        var nodes = Nodes(options);
        foreach (var option in options.Where(option => option.Value is not null))
        {
            var text = OptionText.Parse(option.Value!);
            switch (option.Name)
            {
                case "bios":
                    bios = option.Value;
                    break;
                case "pflash":
                    flash.TryAdd(flash.Count, option.Value!);
                    break;
                case "drive" when text["if"] == "pflash" && (text["file"] ?? text["file.filename"]) is { } file:
                    flash[int.TryParse(text["unit"], NumberStyles.None, CultureInfo.InvariantCulture, out var unit) ? unit : flash.Count] = file;
                    break;
                case "machine" or "M":
                    foreach (var place in new[] { 0, 1 })
                    {
                        if (text[$"pflash{place}"] is { } node && nodes.TryGetValue(node, out var image))
                        {
                            flash[place] = image;
                        }
                    }
                    break;
                case "global":
                    secure |= (text["driver"] == "cfi.pflash01" && text["property"] == "secure" && text["value"] is "on" or "true") || text.IsOn("cfi.pflash01.secure");
                    break;
            }
        }
        var code = flash.TryGetValue(0, out var first) ? first : bios;
        return new FirmwareChoice(code, flash.GetValueOrDefault(1), secure || (code is not null && SecureNames.Any(name => Path.GetFileName(code).Contains(name, StringComparison.OrdinalIgnoreCase))));
    }

    // "-blockdev driver=raw,node-name=code,file.driver=file,file.filename=…", or the JSON of the same.
    private static Dictionary<string, string> Nodes(IReadOnlyList<ArgvOption> options)
    {
        var files = new Dictionary<string, string>(StringComparer.Ordinal);
        var above = new List<(string Node, string Below)>();
        foreach (var value in options.Where(option => option.Name == "blockdev").Select(option => option.Value!))
        {
            string? name, file, below;
            if (JsonOption.TryParse(value) is { } json)
            {
                name = JsonOption.Text(json["node-name"]);
                file = JsonOption.Text(json["filename"]) ?? (json["file"] is JsonObject child ? JsonOption.Text(child["filename"]) : null);
                below = json["file"] is JsonObject ? null : JsonOption.Text(json["file"]);
            }
            else
            {
                var text = OptionText.Parse(value);
                (name, file, below) = (text["node-name"], text["filename"] ?? text["file.filename"], text["file"]);
            }
            if (name is not null && file is not null)
            {
                files[name] = file;
            }
            else if (name is not null && below is not null)
            {
                above.Add((name, below));
            }
        }
        foreach (var (node, below) in above)
        {
            if (files.TryGetValue(below, out var file))
            {
                files.TryAdd(node, file);
            }
        }
        return files;
    }
}
