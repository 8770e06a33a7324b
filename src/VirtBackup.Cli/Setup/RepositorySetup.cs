using System.Security.Cryptography;
using VirtBackup.Cli.Offline;
using VirtBackup.Core;
using VirtBackup.Format;
using VirtBackup.Identity;
using VirtBackup.ObjectStores;
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
    /// <param name="folder">Where the repository goes: empty, or not there yet.</param>
    /// <param name="keep">Hands the recovery kit of the new repository over; when it fails, nothing is kept.</param>
    /// <param name="cancellationToken">Stops the work; nothing is kept.</param>
    public async Task<NewRepository> ReplaceAsync(string data, string folder, Action<RecoveryKit> keep, CancellationToken cancellationToken)
    {
        var home = StoppedController.RequireHome(data);
        var settings = home.ReadSettings();
        using var homeLock = StoppedController.TakeLock(home);
        using var authority = home.ReadAuthority(context.Entropy, context.Time);
        using var escrow = StoppedController.ReadEscrow(home);
        using var undo = new Undo();
        var repository = Id16.Create(context.Entropy);
        await CreateAsync(folder, repository, escrow, undo, cancellationToken);
        using (var kit = CreateKit(repository, escrow, authority))
        {
            keep(kit);
        }
        // Index and catalog follow at the controller's next start: both know which repository they belong to.
        var changed = settings with { RepositoryPath = Path.GetFullPath(folder), RepositoryId = repository.ToString() };
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
    public async Task CreateAsync(string folder, Id16 repository, EscrowKeys escrow, Undo undo, CancellationToken cancellationToken)
    {
        var full = Path.GetFullPath(folder);
        if (Directory.Exists(full) && Directory.EnumerateFileSystemEntries(full).Any())
        {
            throw new CommandFault(ExitCode.Refused, $"The folder '{full}' for the repository is not empty.", "choose an empty folder with --repository, or rebuild the controller of an existing one with --from-kit");
        }
        undo.CreateFolder(full);
        undo.EmptyFolder(full);
        var head = new RepositoryHead
        {
            Uuid = repository,
            Created = context.Time.GetUtcNow(),
            RestoreKey = escrow.RestoreKey.Public.SubjectPublicKeyInfo.ToArray(),
            Scopes = [new RepositoryScope(repository.ToString(), FleetScope, 1)],
        };
        using var store = LocalFolderStore.Open(full, new LocalFolderOptions { Entropy = context.Entropy });
        var wrapped = Keyring.Wrap(escrow.RestoreKey, escrow.Root, context.Entropy).ToBytes();
        await RepositoryInitializer.InitializeAsync(store, head, wrapped, cancellationToken);
    }
}
