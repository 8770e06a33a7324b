namespace VirtBackup.Hypervisors;

/// <summary>Where this host has a program.</summary>
internal static class ProgramPath
{
    /// <summary>Null: in none of the folders of PATH.</summary>
    public static string? Find(string name) =>
        (Environment.GetEnvironmentVariable("PATH") ?? "").Split(':', StringSplitOptions.RemoveEmptyEntries).Select(folder => Path.Combine(folder, name)).FirstOrDefault(File.Exists);
}
