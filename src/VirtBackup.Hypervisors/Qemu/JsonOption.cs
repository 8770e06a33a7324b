using System.Text.Json;
using System.Text.Json.Nodes;

namespace VirtBackup.Hypervisors.Qemu;

/// <summary>Options that QEMU takes as JSON objects (QEMU 6.0 and later).</summary>
internal static class JsonOption
{
    private static readonly JsonDocumentOptions Strict = new() { AllowDuplicateProperties = false };

    /// <summary>The object, or null when the text is none.</summary>
    public static JsonObject? TryParse(string text)
    {
        try
        {
            return JsonNode.Parse(text, documentOptions: Strict) as JsonObject;
        }
        catch (Exception failure) when (failure is JsonException or InvalidOperationException)
        {
            // Of a name with half a surrogate pair, the search for duplicates says that it cannot be read.
            return null;
        }
    }

    /// <summary>A property's text, or null when it is absent or of another type.</summary>
    public static string? Text(JsonNode? value) => value is JsonValue scalar && scalar.TryGetValue<string>(out var text) ? text : null;
}
