using VirtBackup.CloudStores;
using VirtBackup.Controller.Copies;
using VirtBackup.Core;
using VirtBackup.Database;
using VirtBackup.Identity;
using VirtBackup.Repository.Index;

namespace VirtBackup.Controller.Host;

/// <summary>Opens copy stores wherever they are. The index of each lies in the controller's home, with what waits for a provider.</summary>
internal sealed class HomeCopyPlaces(ControllerHome home) : ICopyPlaces
{
    private const string IndexName = "index.db";
    private const string SpoolName = "spool";
    private const string CacheName = "cache";

    public async ValueTask<CopyPlace> OpenAsync(string name, StoreLocation location, bool isNew, CancellationToken cancellationToken)
    {
        if (location.Lock != ProviderLock.None)
        {
            throw new FaultException(FaultReason.Unsupported, "Locks of a copy store bind the controller alone: leave 'lock' out of its address. Only the repository's own place has them enforced by its provider.");
        }
        if (location.IsFolder)
        {
            RequireFolder(location.Text, isNew);
        }
        var folder = home.EnsureCopyFolder(name);
        var opened = await StoreOpener.OpenOwnedAsync(
            location,
            new StoreOwner
            {
                SpoolFolder = Path.Combine(folder, SpoolName), CopiesFolder = Path.Combine(folder, CacheName), Entropy = SystemEntropy.Instance,
                OnWait = notice => Console.Error.WriteLine($"virtbackupd: copy store {name}: {notice}"),
            },
            cancellationToken);
        try
        {
            var index = SqliteDatabase.Open(Path.Combine(folder, IndexName), RepositoryIndex.Schema, new SqliteOptions { CacheKibibytes = 2 << 10 });
            return new CopyPlace(opened.Store, index, async () =>
            {
                await index.DisposeAsync();
                await opened.DisposeAsync();
            });
        }
        catch
        {
            await opened.DisposeAsync();
            throw;
        }
    }

    public void Forget(string name) => home.DeleteCopyFolder(name);

    /// <summary>Only a new place is made: an empty mount point must not become one.</summary>
    private static void RequireFolder(string folder, bool isNew)
    {
        if (Directory.Exists(folder))
        {
            return;
        }
        if (!isNew)
        {
            throw new FaultException(FaultReason.NotFound, $"There is no folder '{folder}': check whether its disk is mounted.");
        }
        try
        {
            if (OperatingSystem.IsWindows())
            {
                Directory.CreateDirectory(folder);
            }
            else
            {
                Directory.CreateDirectory(folder, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
            }
        }
        catch (Exception failure) when (failure is IOException or UnauthorizedAccessException)
        {
            throw new FaultException(FaultReason.Denied, $"The folder '{folder}' cannot be made: {failure.Message}", failure);
        }
    }
}
