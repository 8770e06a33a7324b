using System.Text.Json.Nodes;

namespace VirtBackup.Cli.Tests.Fixtures;

/// <summary>What a program finds in the output that is for it.</summary>
internal static class JsonPaths
{
    /// <summary>The values at paths, written <c>a.0.b=value c=null</c> with underscores for blanks.</summary>
    public static void Holds(this JsonNode root, string expected)
    {
        foreach (var pair in expected.Split(' ', StringSplitOptions.RemoveEmptyEntries))
        {
            var at = pair.IndexOf('=', StringComparison.Ordinal);
            Assert.Equal(pair[(at + 1)..], ValueAt(root, pair[..at]));
        }
    }

    /// <summary>One of them.</summary>
    public static string ValueAt(JsonNode root, string path)
    {
        var node = path.Split('.').Aggregate<string, JsonNode?>(root, static (at, name) => int.TryParse(name, out var index) ? at!.AsArray()[index] : Member(at!.AsObject(), name));
        return (node?.ToString() ?? "null").Replace(' ', '_') switch
        {
            "True" => "true",
            "False" => "false",
            var text => text,
        };
    }

    // Every member is always there, if only as null.
    private static JsonNode? Member(JsonObject from, string name)
    {
        Assert.True(from.ContainsKey(name), $"no member {name} in {from}");
        return from[name];
    }
}
