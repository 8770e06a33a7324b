using System.Text.Json;
using System.Text.Json.Nodes;
using VirtBackup.Core;

namespace VirtBackup.Hypervisors.Qemu.Comparing;

/// <summary>The features of a processor, as QEMU expands its model (query-cpu-model-expansion).</summary>
internal static class CpuFacts
{
    // Properties of the same list that are settings of QEMU, not what a guest finds.
    private static readonly string[] Settings = ["x-", "hv-", "kvm", "host-", "legacy-", "full-cpuid", "fill-mtrr", "migratable", "l3-cache", "tcg-", "cpuid-0xb", "start-powered-off", "realized", "hotplug", "xen-vapic", "lmce", "vmx-"];

    public static JsonObject Expansion(string model, IReadOnlyDictionary<string, bool> features)
    {
        var described = new JsonObject { ["name"] = model };
        if (features.Count > 0)
        {
            described["props"] = new JsonObject(features.Select(feature => KeyValuePair.Create<string, JsonNode?>(feature.Key, feature.Value)));
        }
        return new JsonObject { ["type"] = "full", ["model"] = described };
    }

    public static IReadOnlySet<string> FeaturesOf(JsonElement expansion) =>
        expansion.Field("model").Field("props").EnumerateObject()
            .Where(property => property.Value.ValueKind == JsonValueKind.True && !Settings.Any(setting => property.Name.StartsWith(setting, StringComparison.Ordinal)))
            .Select(property => property.Name).ToHashSet(StringComparer.Ordinal);

    /// <summary>What a running machine's processor is; features only where its QEMU tells them.</summary>
    public static async Task<JsonObject?> ReadAsync(QmpClient qmp, JsonElement cpus, IReadOnlyList<ArgvOption> options, CancellationToken cancellationToken)
    {
        if (cpus.Items().FirstOrDefault().FindText("qom-path") is not { } path)
        {
            return null;
        }
        try
        {
            var type = JsonFields.AsText(await qmp.ExecuteAsync("qom-get", new JsonObject { ["path"] = path, ["property"] = "type" }, cancellationToken), "type");
            var end = type.LastIndexOf("-cpu", StringComparison.Ordinal);
            var architecture = end > 0 ? type.LastIndexOf('-', end - 1) : -1;
            var model = architecture > 0 ? type[..architecture] : type;
            var facts = new JsonObject { ["model"] = model };
            if (await TryExpandAsync(qmp, model, CpuChoice.Of(options).Features, cancellationToken) is { } features)
            {
                facts["features"] = new JsonArray([.. features.Order(StringComparer.Ordinal).Select(feature => (JsonNode)feature)]);
            }
            return facts;
        }
        catch (FaultException fault) when (fault.Reason == FaultReason.FailedPrecondition)
        {
            return null; // this QEMU does not tell
        }
    }

    private static async Task<IReadOnlySet<string>?> TryExpandAsync(
        QmpClient qmp, string model, IReadOnlyDictionary<string, bool> features, CancellationToken cancellationToken)
    {
        try
        {
            return FeaturesOf(await qmp.ExecuteAsync("query-cpu-model-expansion", Expansion(model, features), cancellationToken));
        }
        catch (FaultException fault) when (fault.Reason == FaultReason.FailedPrecondition)
        {
            return null;
        }
    }
}
