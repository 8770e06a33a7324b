namespace VirtBackup.Cli.Services;

/// <summary>
/// A service's program. It lies beside this one (installed), or in the output folder of its own project (run from a source
/// build: <c>src/VirtBackup.Cli/bin/X/Y</c> finds <c>src/VirtBackup.Controller.Host/bin/X/Y</c>).
/// </summary>
internal sealed class ServiceProgram(string name, string project)
{
    private const string OwnProject = "VirtBackup.Cli";

    public static ServiceProgram Controller { get; } = new("virtbackupd", "VirtBackup.Controller.Host");

    public static ServiceProgram Agent { get; } = new("virtbackup-agent", "VirtBackup.Agent.Host");

    /// <summary>Becomes the service: where the system can, in the same process, so that signals and exit code are its own.</summary>
    public Task<int> RunAsync(IReadOnlyList<string> arguments, CliContext context)
    {
        var command = Find(AppContext.BaseDirectory)
            ?? throw new CommandFault(
                ExitCode.Failed, $"The program '{name}' is not beside this one (in '{AppContext.BaseDirectory}').",
                "install it there, or build the whole solution when you run from source");
        context.Terminal.Writer.Flush();
        return ProcessReplacement.RunAsync([.. command, .. arguments]);
    }

    /// <summary>The command that starts it: its executable, or <c>dotnet</c> and its assembly; null when it is not there.</summary>
    internal IReadOnlyList<string>? Find(string folder)
    {
        foreach (var place in PlacesFor(folder))
        {
            var executable = Path.Combine(place, OperatingSystem.IsWindows() ? name + ".exe" : name);
            if (File.Exists(executable))
            {
                return [executable];
            }
            var assembly = Path.Combine(place, name + ".dll");
            if (File.Exists(assembly))
            {
                return [DotnetPath(), assembly];
            }
        }
        return null;
    }

    private IEnumerable<string> PlacesFor(string folder)
    {
        yield return folder;
        var parts = Path.TrimEndingDirectorySeparator(folder).Split(Path.DirectorySeparatorChar);
        var own = Array.LastIndexOf(parts, OwnProject);
        if (own >= 0)
        {
            parts[own] = project;
            yield return string.Join(Path.DirectorySeparatorChar, parts);
        }
    }

    /// <summary>The .NET host that runs this program, else the one on the path.</summary>
    private static string DotnetPath() =>
        Environment.ProcessPath is { } path && Path.GetFileNameWithoutExtension(path) == "dotnet" ? path
        : Environment.GetEnvironmentVariable("DOTNET_HOST_PATH") is { Length: > 0 } host ? host
        : "dotnet";
}
