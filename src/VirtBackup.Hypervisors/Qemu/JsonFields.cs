using System.Text.Json;
using VirtBackup.Core;

namespace VirtBackup.Hypervisors.Qemu;

/// <summary>Reads fields of a reply that another program wrote: a missing or mistyped one is a format violation, never a crash.</summary>
internal static class JsonFields
{
    public static JsonElement Field(this JsonElement element, string name) =>
        element.Find(name) ?? throw FaultException.Malformed($"A reply of QEMU lacks the field '{name}'.");

    public static JsonElement? Find(this JsonElement element, string name) =>
        element.ValueKind == JsonValueKind.Object && element.TryGetProperty(name, out var value) && value.ValueKind != JsonValueKind.Null ? value : null;

    public static string Text(this JsonElement element, string name) => AsText(element.Field(name), name);

    public static string? FindText(this JsonElement element, string name) => element.Find(name) is { } value ? AsText(value, name) : null;

    public static bool Flag(this JsonElement element, string name) => element.Find(name)?.ValueKind == JsonValueKind.True;

    public static long Number(this JsonElement element, string name) =>
        element.Field(name) is { ValueKind: JsonValueKind.Number } value && value.TryGetInt64(out var number) && number >= 0
            ? number
            : throw Mistyped(name);

    public static JsonElement.ArrayEnumerator Items(this JsonElement element, string? name = null)
    {
        var array = name is null ? element : element.Field(name);
        return array.ValueKind == JsonValueKind.Array ? array.EnumerateArray() : throw Mistyped(name ?? "return");
    }

    public static string AsText(JsonElement value, string name)
    {
        try
        {
            return value.ValueKind == JsonValueKind.String ? value.GetString()! : throw Mistyped(name);
        }
        catch (InvalidOperationException failure)
        {
            throw new FaultException(FaultReason.Malformed, $"A reply of QEMU has text in '{name}' that is not valid Unicode.", failure);
        }
    }

    private static FaultException Mistyped(string name) => FaultException.Malformed($"A reply of QEMU has a field '{name}' of an unexpected type.");
}
