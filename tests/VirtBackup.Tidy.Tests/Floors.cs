namespace VirtBackup.Tidy.Tests;

/// <summary>Which project may rest on which, and on which packages. A project that is not here may not exist.</summary>
internal static class Floors
{
    private const string AspNetCore = "Microsoft.AspNetCore.App";

    /// <summary>Projects under src: short names of projects, then packages.</summary>
    public static readonly IReadOnlyDictionary<string, Floor> Product = new Dictionary<string, Floor>(StringComparer.Ordinal)
    {
        ["Core"] = new([], []),
        ["Format"] = new(["Core"], []),
        ["Sealing"] = new(["Core", "Format"], ["ZstdSharp.Port"]),
        ["Identity"] = new(["Core"], []),
        ["Nbd"] = new(["Core"], []),
        ["Database"] = new(["Core"], ["Microsoft.Data.Sqlite"]),
        ["ObjectStores"] = new(["Core"], []),
        ["CloudStores"] = new(["Core", "ObjectStores"], ["AWSSDK.S3", "Azure.Storage.Blobs"]),
        ["Protocol"] = new(["Core"], ["Google.Protobuf", "Grpc.Net.Client", "Grpc.Tools"]),
        ["Repository"] = new(["Core", "Format", "Database"], []),
        ["Catalog"] = new(["Core", "Database"], []),
        ["Hypervisors"] = new(["Core", "Nbd"], []),
        ["Agent"] = new(["Core", "Format", "Sealing", "Identity", "Protocol", "Hypervisors"], ["Microsoft.Extensions.Logging.Abstractions"]),
        ["Controller"] = new(["Core", "Format", "Sealing", "Identity", "Protocol", "Repository", "Catalog"], ["Grpc.AspNetCore", AspNetCore], Ports: ["Database"]),
        ["Agent.Host"] = new(
            ["Agent", "Core", "Format", "Sealing", "Identity", "Protocol", "Hypervisors"],
            ["Microsoft.Extensions.Hosting", "Microsoft.Extensions.Hosting.Systemd", "YamlDotNet"], Program: true),
        ["Controller.Host"] = new(["Controller", "CloudStores", "Database"], ["Microsoft.Extensions.Hosting.Systemd"], Program: true),
        ["Cli"] = new(
            ["Core", "Format", "Sealing", "Identity", "Protocol", "Repository", "CloudStores", "Database"],
            ["System.CommandLine", "Spectre.Console"], Program: true),
    };

    /// <summary>Packages of tests beyond what the product may use.</summary>
    public static readonly IReadOnlyList<string> TestPackages = ["xunit.v3", "CsCheck", "Microsoft.Extensions.TimeProvider.Testing"];

    /// <summary>A project may never reach these, by whatever way.</summary>
    public static readonly IReadOnlyDictionary<string, string[]> Unreachable = new Dictionary<string, string[]>(StringComparer.Ordinal)
    {
        ["VirtBackup.Cli"] = ["VirtBackup.Agent", "VirtBackup.Controller"],
    };

    /// <summary>Programs compose: real time, console and files are theirs.</summary>
    public static bool IsProgram(string project) => Product.TryGetValue(ShortName(project), out var floor) && floor.Program;

    public static string ShortName(string project) => project.StartsWith("VirtBackup.", StringComparison.Ordinal) ? project["VirtBackup.".Length..] : project;

    /// <summary>A project and everything below it.</summary>
    public static IReadOnlySet<string> Below(string shortName)
    {
        var found = new HashSet<string>(StringComparer.Ordinal);
        var open = new Stack<string>([shortName]);
        while (open.TryPop(out var name))
        {
            if (found.Add(name) && Product.TryGetValue(name, out var floor))
            {
                foreach (var next in floor.Projects)
                {
                    open.Push(next);
                }
            }
        }
        return found;
    }
}

/// <param name="Ports">Projects that it reaches through others and may name, because it hands their ports on.</param>
/// <param name="Program">It composes and runs: a host or the command line.</param>
internal sealed record Floor(string[] Projects, string[] Packages, bool Program = false, string[]? Ports = null);
