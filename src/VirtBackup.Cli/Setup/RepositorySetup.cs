using System.Security.Cryptography;
using VirtBackup.Cli.Offline;
using VirtBackup.CloudStores;
using VirtBackup.Core;
using VirtBackup.Format;
using VirtBackup.Identity;
using VirtBackup.Repository;
using VirtBackup.Sealing;

namespace VirtBackup.Cli.Setup;

/// <summary>A repository that was made, and the one that the controller used before.</summary>
internal sealed record NewRepository(string Data, string Repository, string RepositoryId, string PreviousRepository, string PreviousRepositoryId);

/// <summary>Makes empty repositories under a controller's keys. Either everything is there afterwards or nothing is.</summary>
internal sealed class RepositorySetup(CliContext context)
{
    private const string FleetScope = "fleet";

    /// <summary>
    /// An empty repository for a controller that exists and does not run: it uses it from its next start, with the same
    /// keys, agents and operators. The repository that it used before is not touched.
    /// </summary>
    /// <param name="data">The controller's folder.</param>
    /// <param name="place">Where the repository goes: a folder that is empty or not there yet, or the address of an empty place in a store.</param>
    /// <param name="keep">Hands the recovery kit of the new repository over; when it fails, nothing is kept.</param>
    /// <param name="cancellationToken">Stops the work; nothing is kept.</param>
    public async Task<NewRepository> ReplaceAsync(string data, string place, Action<RecoveryKit> keep, CancellationToken cancellationToken)
    {
        var home = StoppedController.RequireHome(data);
        var settings = home.ReadSettings();
        using var homeLock = StoppedController.TakeLock(home);
        using var authority = home.ReadAuthority(context.Entropy, context.Time);
        using var escrow = StoppedController.ReadEscrow(home);
        using var undo = new Undo();
        var repository = Id16.Create(context.Entropy);
        var location = StoreLocation.Parse(place);
        await CreateAsync(location, repository, escrow, undo, cancellationToken);
        using (var kit = CreateKit(repository, escrow, authority))
        {
            keep(kit);
        }
        // Index and catalog follow at the controller's next start: both know which repository they belong to.
        var changed = settings with { RepositoryPath = location.Text, RepositoryId = repository.ToString() };
        home.WriteSettings(changed);
        undo.Keep();
        return new NewRepository(home.Folder, changed.RepositoryPath, changed.RepositoryId, settings.RepositoryPath, settings.RepositoryId);
    }

    /// <summary>What opens the repository when everything but it is lost; the caller disposes it.</summary>
    public static RecoveryKit CreateKit(Id16 repository, EscrowKeys escrow, CertificateAuthority authority)
    {
        var root = new byte[RootSecret.Size];
        escrow.Root.CopyTo(root);
        try
        {
            return RecoveryKit.Create(repository, root, authority);
        }
        finally
        {
            CryptographicOperations.ZeroMemory(root);
        }
    }

    /// <summary>An empty repository; what was made is told to <paramref name="undo"/>.</summary>
    public async Task CreateAsync(StoreLocation location, Id16 repository, EscrowKeys escrow, Undo undo, CancellationToken cancellationToken)
    {
        if (location.IsFolder)
        {
            MakeFolder(location.Text, undo);
        }
        var head = new RepositoryHead
        {
            Uuid = repository,
            Created = context.Time.GetUtcNow(),
            RestoreKey = escrow.RestoreKey.Public.SubjectPublicKeyInfo.ToArray(),
            Scopes = [new RepositoryScope(repository.ToString(), FleetScope, 1)],
        };
        var wrapped = Keyring.Wrap(escrow.RestoreKey, escrow.Root, context.Entropy).ToBytes();
        using var spool = new SetupSpool();
        await using var opened = await StoreOpener.OpenOwnedAsync(location, spool.OwnerWith(context.Entropy, context.Terminal.ErrorWriter.WriteLine), cancellationToken);
        if (!location.IsFolder)
        {
            await RequireEmptyAsync(opened.Store, location, cancellationToken);
            undo.RemoveRepository(location, head);
        }
        await RepositoryInitializer.InitializeAsync(opened.Store, head, wrapped, cancellationToken);
    }

    private static void MakeFolder(string folder, Undo undo)
    {
        if (Directory.Exists(folder) && Directory.EnumerateFileSystemEntries(folder).Any())
        {
            throw new CommandFault(ExitCode.Refused, $"The folder '{folder}' for the repository is not empty.", "choose an empty folder with --repository, or rebuild the controller of an existing one with --from-kit");
        }
        undo.CreateFolder(folder);
        undo.EmptyFolder(folder);
    }

    private static async Task RequireEmptyAsync(IObjectStore store, StoreLocation location, CancellationToken cancellationToken)
    {
        await foreach (var found in store.ListAsync("", cancellationToken))
        {
            throw new CommandFault(
                ExitCode.Refused, $"'{location.Text}' is not empty: it holds '{found.Key}'.", "choose another prefix with --repository, or rebuild the controller of an existing repository with --from-kit");
        }
    }
}
