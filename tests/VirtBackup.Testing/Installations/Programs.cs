using VirtBackup.Testing.Lab;

namespace VirtBackup.Testing.Installations;

/// <summary>The built programs of the product, of the same configuration (Debug or Release) as the running test.</summary>
public static class Programs
{
    public static string CommandLine { get; } = Find("VirtBackup.Cli", "virtbackup");

    public static string Controller { get; } = Find("VirtBackup.Controller.Host", "virtbackupd");

    public static string Agent { get; } = Find("VirtBackup.Agent.Host", "virtbackup-agent");

    private static string Find(string project, string program)
    {
        // PROJECT/bin/CONFIGURATION/FRAMEWORK/
        var framework = new DirectoryInfo(Path.TrimEndingDirectorySeparator(AppContext.BaseDirectory));
        var path = Path.Combine(LabGuest.RepositoryRoot, "src", project, "bin", framework.Parent?.Name ?? "", framework.Name, program);
        return File.Exists(path) ? path : throw new LabException($"{path} is not built: build VirtBackup.sln with this configuration first.");
    }
}
