using VirtBackup.Core;

namespace VirtBackup.ObjectStores.Tests;

public sealed class LinuxFolderConformance() : LocalFolderConformance(new LocalFolderOptions { OpenFilesMax = 3 });

public sealed class LinkingFolderConformance() : LocalFolderConformance(new LocalFolderOptions { OpenFilesMax = 3, LinkOnly = true });

public sealed class PortableFolderConformance() : LocalFolderConformance(new LocalFolderOptions { OpenFilesMax = 3, PortableOnly = true });

public abstract class LocalFolderConformance : StoreConformance, IDisposable
{
    private readonly string _root = Directory.CreateTempSubdirectory("virtbackup-store-").FullName;
    private readonly LocalFolderStore _store;

    private protected LocalFolderConformance(LocalFolderOptions options) => _store = LocalFolderStore.Open(_root, options);

    protected override IObjectStore Store => _store;

    public void Dispose()
    {
        _store.Dispose();
        Directory.Delete(_root, recursive: true);
        GC.SuppressFinalize(this);
    }

    protected override int CountStaged() => Directory.GetFiles(Path.Combine(_root, "staging")).Length;
}
