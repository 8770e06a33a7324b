using VirtBackup.Cli.Connection;
using VirtBackup.CloudStores;
using VirtBackup.Core;
using VirtBackup.Format;
using VirtBackup.Format.Keys;
using VirtBackup.Identity;
using VirtBackup.Sealing;

namespace VirtBackup.Cli.Setup;

/// <summary>What a controller is to be.</summary>
internal sealed record ControllerWish(string DataFolder, StoreLocation Repository, IReadOnlyList<string> Listen, IReadOnlyList<string> Names, string CredentialsFolder, string Operator);

/// <summary>What was made. The kit is the caller's to hand over once and to dispose.</summary>
internal sealed record NewController(string Data, string Repository, string RepositoryId, string Credentials, string Address, RecoveryKit Kit);

/// <summary>
/// Makes a controller: certificate authority, escrowed keys, repository, operator credentials. Either everything is there
/// afterwards or nothing is.
/// </summary>
internal sealed class ControllerSetup(CliContext context)
{
    /// <summary>A new controller with a new repository.</summary>
    /// <param name="keep">Hands the recovery kit over; when it fails, nothing is kept.</param>
    public async Task<NewController> CreateAsync(ControllerWish wish, Action<RecoveryKit> keep, CancellationToken cancellationToken)
    {
        var home = RequireFree(wish);
        using var undo = new Undo();
        using var authority = CertificateAuthority.Create(context.Entropy, context.Time);
        using var escrow = EscrowKeys.Create(context.Entropy);
        var repository = Id16.Create(context.Entropy);
        await new RepositorySetup(context).CreateAsync(wish.Repository, repository, escrow, undo, cancellationToken);
        return Write(wish, home, repository, authority, escrow, undo, keep);
    }

    /// <summary>A controller on a new machine for a repository that exists, from its recovery kit.</summary>
    public async Task<NewController> RebuildAsync(ControllerWish wish, RecoveryKit kit, CancellationToken cancellationToken)
    {
        var home = RequireFree(wish);
        using var undo = new Undo();
        using var authority = kit.RestoreAuthority(context.Entropy, context.Time);
        await using var opened = StoreOpener.OpenForReading(wish.Repository);
        var store = opened.Store;
        var head = RepositoryHead.Parse(await store.ReadAllAsync(ObjectKeys.Format, RepositoryHead.BytesMax, cancellationToken));
        if (head.Uuid != kit.Repository)
        {
            throw new CommandFault(ExitCode.Refused, $"The kit belongs to repository {kit.Repository}; '{wish.Repository.Text}' holds {head.Uuid}.", "take the kit of this repository, or mount the kit's repository");
        }
        var keyName = ObjectKeys.RestoreKey(KeyId.Compute(head.RestoreKey));
        var wrapped = WrappedKey.Parse(await store.ReadAllAsync(keyName, WrappedKey.BytesMax, cancellationToken));
        var root = RootSecret.FromBytes(kit.RootSecret);
        using var escrow = new EscrowKeys(root, Keyring.Unwrap(wrapped, root));
        return Write(wish, home, head.Uuid, authority, escrow, undo, keep: static _ => { });
    }

    private static ControllerHome RequireFree(ControllerWish wish)
    {
        var home = new ControllerHome(Path.GetFullPath(wish.DataFolder));
        if (home.IsInitialised || (Directory.Exists(home.Folder) && Directory.EnumerateFileSystemEntries(home.Folder).Any()))
        {
            throw new CommandFault(ExitCode.Refused, $"'{home.Folder}' holds a controller already, or other files.", "choose an empty folder with --data");
        }
        var credentials = new CredentialFolder(wish.CredentialsFolder);
        if (credentials.Exists)
        {
            throw new CommandFault(ExitCode.Refused, $"'{credentials.Path}' holds operator credentials already.", "choose another folder with --operator-credentials");
        }
        return home;
    }

    private static NewController Write(
        ControllerWish wish, ControllerHome home, Id16 repository, CertificateAuthority authority, EscrowKeys escrow, Undo undo, Action<RecoveryKit> keep)
    {
        undo.CreateFolder(home.Folder);
        undo.EmptyFolder(home.Folder);
        home.CreateFolders();
        home.WriteAuthority(authority);
        var secrets = escrow.Serialize();
        try
        {
            home.WriteEscrow(secrets);
        }
        finally
        {
            System.Security.Cryptography.CryptographicOperations.ZeroMemory(secrets);
        }
        var settings = new ControllerSettings
        {
            Listen = wish.Listen,
            Names = wish.Names,
            RepositoryPath = wish.Repository.Text,
            RepositoryId = repository.ToString(),
        };
        var credentials = new CredentialFolder(wish.CredentialsFolder);
        credentials.Write(authority, wish.Operator, settings.DialAddress, undo);
        var kit = RepositorySetup.CreateKit(repository, escrow, authority);
        keep(kit);
        // The settings come last: they are what makes the folder a controller's.
        home.WriteSettings(settings);
        undo.Keep();
        return new NewController(home.Folder, settings.RepositoryPath, settings.RepositoryId, credentials.Path, settings.DialAddress, kit);
    }
}
