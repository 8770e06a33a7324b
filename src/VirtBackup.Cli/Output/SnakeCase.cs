using System.Text.Json;

namespace VirtBackup.Cli.Output;

internal static class SnakeCase
{
    public static string Of(string name) => JsonNamingPolicy.SnakeCaseLower.ConvertName(name);
}
