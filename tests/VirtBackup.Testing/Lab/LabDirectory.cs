namespace VirtBackup.Testing.Lab;

/// <summary>A directory of its own for one test, removed on disposal. Its path is short enough for unix sockets in it.</summary>
public sealed class LabDirectory : IDisposable
{
    public string Path { get; } = Directory.CreateTempSubdirectory("vblab-").FullName;

    /// <summary>The path of a file in this directory.</summary>
    public string File(string name) => System.IO.Path.Combine(Path, name);

    public void Dispose()
    {
        if (Directory.Exists(Path)) Directory.Delete(Path, recursive: true);
    }
}
