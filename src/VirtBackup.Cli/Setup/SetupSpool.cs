namespace VirtBackup.Cli.Setup;

/// <summary>A spool for the few small objects of a new repository, removed with its contents.</summary>
internal sealed class SetupSpool : IDisposable
{
    public string Path { get; } = Directory.CreateTempSubdirectory("virtbackup-setup-").FullName;

    public void Dispose() => Directory.Delete(Path, recursive: true);
}
