using System.Security.Cryptography;
using VirtBackup.CloudStores;
using VirtBackup.Core;
using VirtBackup.Database;
using VirtBackup.Identity;
using VirtBackup.Repository;
using VirtBackup.Repository.Index;
using VirtBackup.Sealing;

namespace VirtBackup.Cli.Offline;

/// <summary>
/// The repository of a controller that does not run, opened in its place: under the locks of its folder and of its
/// repository, so that it cannot start meanwhile.
/// </summary>
internal sealed class StoppedController : IAsyncDisposable
{
    private readonly ControllerHome _home;
    private readonly IDisposable _homeLock;
    private readonly OpenStore _store;
    private readonly SqliteDatabase _index;

    private StoppedController(ControllerHome home, IDisposable homeLock, OpenStore store, SqliteDatabase index, BackupRepository repository)
    {
        (_home, _homeLock, _store, _index, Repository) = (home, homeLock, store, index, repository);
    }

    public IObjectStore Store => _store.Store;

    public BackupRepository Repository { get; }

    /// <param name="data">The controller's folder.</param>
    /// <param name="options">How to open the repository.</param>
    /// <param name="context">Clock and entropy.</param>
    /// <param name="cancellationToken">Stops the opening; it can be tried again.</param>
    /// <exception cref="CommandFault">The controller runs, or there is none in the folder.</exception>
    public static async Task<StoppedController> OpenAsync(string data, RepositoryOptions options, CliContext context, CancellationToken cancellationToken)
    {
        var home = RequireHome(data);
        var settings = home.ReadSettings();
        var homeLock = TakeLock(home);
        OpenStore? store = null;
        SqliteDatabase? index = null;
        try
        {
            store = await OpenStoreAsync(home, settings, context, cancellationToken);
            var head = await BackupRepository.ReadHeadAsync(store.Store, cancellationToken);
            if (head.Uuid != Id16.Parse(settings.RepositoryId))
            {
                throw new CommandFault(
                    ExitCode.Refused, $"'{settings.RepositoryPath}' holds repository {head.Uuid}, not {settings.RepositoryId}.", "check which disk is mounted there, or the address");
            }
            index = SqliteDatabase.Open(home.IndexPath, RepositoryIndex.Schema, new SqliteOptions { CacheKibibytes = 16 << 10 });
            var repository = await BackupRepository.OpenAsync(store.Store, index, options, context.Time, context.Entropy, cancellationToken);
            return new StoppedController(home, homeLock, store, index, repository);
        }
        catch
        {
            if (index is not null)
            {
                await index.DisposeAsync();
            }
            if (store is not null)
            {
                await store.DisposeAsync();
            }
            homeLock.Dispose();
            throw;
        }
    }

    /// <exception cref="CommandFault">There is no controller in the folder.</exception>
    public static ControllerHome RequireHome(string data)
    {
        var home = new ControllerHome(data);
        return home.IsInitialised ? home : throw new CommandFault(
            ExitCode.NotFound, $"'{home.Folder}' holds no controller.",
            "give the folder that 'virtbackup controller init' made: --data DIR; to set up the first controller with its repository: virtbackup controller init --repository DIR");
    }

    /// <summary>The escrowed keys; the caller disposes them.</summary>
    public EscrowKeys ReadEscrow() => ReadEscrow(_home);

    /// <summary>The escrowed keys of a controller; the caller disposes them.</summary>
    public static EscrowKeys ReadEscrow(ControllerHome home)
    {
        var bytes = home.ReadEscrow();
        try
        {
            return EscrowKeys.Parse(bytes);
        }
        finally
        {
            CryptographicOperations.ZeroMemory(bytes);
        }
    }

    public async ValueTask DisposeAsync()
    {
        await Repository.DisposeAsync();
        await _index.DisposeAsync();
        await _store.DisposeAsync();
        _homeLock.Dispose();
    }

    /// <summary>Keeps the controller from starting, until the result is disposed.</summary>
    /// <exception cref="CommandFault">It runs.</exception>
    public static IDisposable TakeLock(ControllerHome home)
    {
        try
        {
            return home.TakeLock();
        }
        catch (FaultException busy) when (busy.Reason == FaultReason.RepositoryBusy)
        {
            throw new CommandFault(
                ExitCode.Refused, $"The controller in '{home.Folder}' runs: this works on a stopped controller only.",
                "stop the controller and try again, or ask the running one: virtbackup repository verify, virtbackup repository status", busy);
        }
    }

    private static async Task<OpenStore> OpenStoreAsync(ControllerHome home, ControllerSettings settings, CliContext context, CancellationToken cancellationToken)
    {
        try
        {
            return await StoreOpener.OpenOwnedAsync(StoreLocation.Parse(settings.RepositoryPath),
                new StoreOwner { SpoolFolder = home.SpoolPath, CopiesFolder = home.CachePath, Entropy = context.Entropy, OnWait = context.Terminal.ErrorWriter.WriteLine },
                cancellationToken);
        }
        catch (FaultException fault) when (fault.Reason == FaultReason.RepositoryBusy)
        {
            throw new CommandFault(fault, $"stop the process that uses '{settings.RepositoryPath}'");
        }
    }
}
