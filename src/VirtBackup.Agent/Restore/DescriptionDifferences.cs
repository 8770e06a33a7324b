using System.Text.Json;
using VirtBackup.Protocol.Common.V1;

namespace VirtBackup.Agent.Restore;

/// <summary>
/// Compares two neutral descriptions of a machine member by member, whatever the platform puts into them. Lists of objects
/// are matched by their members' names or ids, which are not compared where a name is there; lists of texts by content.
/// </summary>
internal static class DescriptionDifferences
{
    private const int TextCharsMax = 1024;
    private const int ItemCharsMax = 256;

    public static IReadOnlyList<RestoreDifference> Compare(JsonElement captured, JsonElement recreated)
    {
        var (before, after) = (Flatten(captured), Flatten(recreated));
        var differences = new List<RestoreDifference>();
        foreach (var item in before.Keys.Union(after.Keys).Order(StringComparer.Ordinal))
        {
            var left = before.GetValueOrDefault(item) ?? [];
            var right = after.GetValueOrDefault(item) ?? [];
            var gone = Without(left, right);
            var come = Without(right, left);
            for (var i = 0; i < Math.Max(gone.Count, come.Count); i++)
            {
                differences.Add(new RestoreDifference
                {
                    Item = Cut(item, ItemCharsMax), Captured = Cut(gone.ElementAtOrDefault(i) ?? "", TextCharsMax), Recreated = Cut(come.ElementAtOrDefault(i) ?? "", TextCharsMax),
                });
            }
        }
        return differences;
    }

    private static Dictionary<string, List<string>> Flatten(JsonElement description)
    {
        var items = new Dictionary<string, List<string>>(StringComparer.Ordinal);
        Add(items, "", description);
        return items;
    }

    private static void Add(Dictionary<string, List<string>> items, string item, JsonElement value)
    {
        switch (value.ValueKind)
        {
            case JsonValueKind.Object:
                // An id beside a name is ours, made from the machine's; it is no property of the machine.
                foreach (var member in value.EnumerateObject().Where(member => member.Name != "id" || !value.TryGetProperty("name", out _)))
                {
                    Add(items, item.Length == 0 ? member.Name : $"{item}.{member.Name}", member.Value);
                }
                break;
            case JsonValueKind.Array:
                foreach (var (number, element) in value.EnumerateArray().Index())
                {
                    Add(items, element.ValueKind == JsonValueKind.Object ? $"{item}.{NameOf(element) ?? $"{number}"}" : item, element);
                }
                break;
            case JsonValueKind.Null or JsonValueKind.Undefined:
                break;
            default:
                if (!items.TryGetValue(item, out var texts))
                {
                    items.Add(item, texts = []);
                }
                texts.Add(value.ToString());
                break;
        }
    }

    private static string? NameOf(JsonElement element) =>
        element.TryGetProperty("name", out var name) && name.ValueKind == JsonValueKind.String ? name.GetString()
        : element.TryGetProperty("id", out var id) && id.ValueKind == JsonValueKind.String ? id.GetString() : null;

    private static List<string> Without(List<string> texts, List<string> others)
    {
        var left = new List<string>(others);
        return texts.FindAll(text => !left.Remove(text));
    }

    private static string Cut(string text, int max) => text.Length <= max ? text : text[..max];
}
