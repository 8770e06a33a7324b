namespace VirtBackup.Testing.Lab;

/// <summary>Sizes of folders.</summary>
public static class Folders
{
    /// <summary>Bytes of all files below it.</summary>
    public static long Measure(string folder) => new DirectoryInfo(folder).EnumerateFiles("*", SearchOption.AllDirectories).Sum(static file => file.Length);
}
