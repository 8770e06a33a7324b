using VirtBackup.Testing.Lab;

namespace VirtBackup.Testing.Installations;

/// <summary>
/// The built programs of the product, of the same configuration (Debug or Release) as the running test; or, if a folder is named in
/// <see cref="FolderVariable"/>, those that <c>deploy/publish.sh</c> made there.
/// </summary>
public static class Programs
{
    /// <summary>An environment variable.</summary>
    public const string FolderVariable = "VIRTBACKUP_TEST_PROGRAMS";

    public static string CommandLine { get; } = Find("VirtBackup.Cli", "virtbackup");

    public static string Controller { get; } = Find("VirtBackup.Controller.Host", "virtbackupd");

    public static string Agent { get; } = Find("VirtBackup.Agent.Host", "virtbackup-agent");

    private static string Find(string project, string program)
    {
        if (Environment.GetEnvironmentVariable(FolderVariable) is { Length: > 0 } folder)
        {
            var published = Path.Combine(folder, program);
            return File.Exists(published) ? published : throw new LabException($"{published} does not exist: run deploy/publish.sh {folder}.");
        }
        // PROJECT/bin/CONFIGURATION/FRAMEWORK/
        var framework = new DirectoryInfo(Path.TrimEndingDirectorySeparator(AppContext.BaseDirectory));
        var path = Path.Combine(LabGuest.RepositoryRoot, "src", project, "bin", framework.Parent?.Name ?? "", framework.Name, program);
        return File.Exists(path) ? path : throw new LabException($"{path} is not built: build VirtBackup.sln with this configuration first.");
    }
}
