using VirtBackup.CloudStores;
using VirtBackup.Core;

namespace VirtBackup.Cli.Setup;

/// <summary>A spool for the few small objects of a new repository, removed with its contents.</summary>
internal sealed class SetupSpool : IDisposable
{
    private const long FreeBytesMin = 1 << 20;

    public string Path { get; } = Directory.CreateTempSubdirectory("virtbackup-setup-").FullName;

    /// <summary>Whoever makes the repository.</summary>
    public StoreOwner OwnerWith(IEntropy entropy, Action<string>? onWait) => new() { SpoolFolder = Path, SpoolFreeBytesMin = FreeBytesMin, Entropy = entropy, OnWait = onWait };

    public void Dispose() => Directory.Delete(Path, recursive: true);
}
