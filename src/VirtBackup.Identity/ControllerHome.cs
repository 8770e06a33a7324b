using System.Security.Cryptography;
using VirtBackup.Core;

namespace VirtBackup.Identity;

/// <summary>
/// A controller's folder (mode 0700): <c>controller.json</c>, <c>pki/</c>, <c>secrets/escrow</c>, <c>secrets/escrow.REPOSITORY</c>, <c>peers/</c>, <c>catalog.db</c>,
/// <c>index.db</c>, <c>lock</c>, and <c>spool/</c> when the repository is at a provider. Files that hold secrets have mode 0600; every file is written in one step.
/// </summary>
public sealed class ControllerHome
{
    /// <summary>Largest escrow file, bytes.</summary>
    public const int EscrowBytesMax = 1 << 10;

    /// <summary>Where it lies unless told otherwise.</summary>
    public const string DefaultFolder = "/var/lib/virtbackup";

    public ControllerHome(string folder)
    {
        ArgumentException.ThrowIfNullOrEmpty(folder);
        Folder = Path.GetFullPath(folder);
    }

    public string Folder { get; }

    public string SettingsPath => Path.Combine(Folder, "controller.json");

    public string AuthorityCertificatePath => Path.Combine(Folder, "pki", "ca.crt");

    public string AuthorityKeyPath => Path.Combine(Folder, "pki", "ca.key");

    public string EscrowPath => Path.Combine(Folder, "secrets", "escrow");

    /// <summary>With a folder for each other controller that this one calls (<see cref="PeerKeyFolders"/>).</summary>
    public string PeersPath => Path.Combine(Folder, "peers");

    /// <summary>The escrowed keys of another repository.</summary>
    private string OriginEscrowPath(Id16 repository) => $"{EscrowPath}.{repository}";

    public string CatalogPath => Path.Combine(Folder, "catalog.db");

    public string IndexPath => Path.Combine(Folder, "index.db");

    /// <summary>Where objects on their way to a provider lie.</summary>
    public string SpoolPath => Path.Combine(Folder, "spool");

    public string LockPath => Path.Combine(Folder, "lock");

    /// <summary>Whether a controller was set up here: the settings are written last.</summary>
    public bool IsInitialised => File.Exists(SettingsPath);

    /// <summary>Makes the folders that are missing.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.Denied"/>: a folder is open to other users.</exception>
    public void CreateFolders()
    {
        PrivateFiles.EnsureFolder(Folder);
        PrivateFiles.EnsureFolder(Path.Combine(Folder, "pki"));
        PrivateFiles.EnsureFolder(Path.Combine(Folder, "secrets"));
    }

    /// <exception cref="FaultException"><see cref="FaultReason.NotFound"/>: no controller was set up here; or the settings are malformed.</exception>
    public ControllerSettings ReadSettings() =>
        IsInitialised
            ? ControllerSettings.Parse(PrivateFiles.ReadPublic(SettingsPath), SettingsPath)
            : throw new FaultException(FaultReason.NotFound, $"'{Folder}' holds no controller: run 'virtbackup controller init --data {Folder}' first.");

    public void WriteSettings(ControllerSettings settings)
    {
        ArgumentNullException.ThrowIfNull(settings);
        settings.Validate(SettingsPath);
        PrivateFiles.Write(SettingsPath, settings.ToJson());
    }

    public CertificateAuthority ReadAuthority(IEntropy entropy, TimeProvider time) =>
        CertificateAuthority.Load(AuthorityCertificatePath, AuthorityKeyPath, entropy, time);

    public void WriteAuthority(CertificateAuthority authority)
    {
        ArgumentNullException.ThrowIfNull(authority);
        authority.Save(AuthorityCertificatePath, AuthorityKeyPath);
    }

    /// <summary>The escrowed keys' bytes; the caller zeroes them.</summary>
    public byte[] ReadEscrow()
    {
        var bytes = PrivateFiles.ReadPrivate(EscrowPath);
        if (bytes.Length > EscrowBytesMax)
        {
            CryptographicOperations.ZeroMemory(bytes);
            throw FaultException.Malformed($"'{EscrowPath}' is longer than {EscrowBytesMax} bytes: restore it from the recovery kit.");
        }
        return bytes;
    }

    public void WriteEscrow(ReadOnlySpan<byte> escrow)
    {
        Check.That(escrow.Length is > 0 and <= EscrowBytesMax);
        PrivateFiles.Write(EscrowPath, escrow);
    }

    /// <summary>The escrowed keys of other repositories that were given to this controller; the caller zeroes them.</summary>
    public IReadOnlyList<(Id16 Repository, byte[] Escrow)> ReadOriginEscrows()
    {
        var found = new List<(Id16, byte[])>();
        foreach (var path in Directory.EnumerateFiles(Path.GetDirectoryName(EscrowPath)!, Path.GetFileName(EscrowPath) + ".*"))
        {
            // The pattern fits the own keys' file, too, which has no extension.
            if (Path.GetExtension(path) is ['.', .. var name] && Id16.TryParse(name, out var repository) && OriginEscrowPath(repository) == path)
            {
                found.Add((repository, PrivateFiles.ReadPrivate(path)));
            }
        }
        return found;
    }

    public void WriteOriginEscrow(Id16 repository, ReadOnlySpan<byte> escrow)
    {
        Check.That(escrow.Length is > 0 and <= EscrowBytesMax);
        PrivateFiles.Write(OriginEscrowPath(repository), escrow);
    }

    /// <summary>Makes this process the only one that runs this controller, until the result is disposed or the process ends.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.RepositoryBusy"/>: another process runs it.</exception>
    public IDisposable TakeLock()
    {
        try
        {
            var options = new FileStreamOptions { Mode = FileMode.OpenOrCreate, Access = FileAccess.ReadWrite, Share = FileShare.None, BufferSize = 0 };
            if (!OperatingSystem.IsWindows())
            {
                options.UnixCreateMode = UnixFileMode.UserRead | UnixFileMode.UserWrite;
            }
            return new FileStream(LockPath, options);
        }
        catch (UnauthorizedAccessException denied)
        {
            throw new FaultException(FaultReason.Denied, $"'{LockPath}' cannot be opened: run the controller as the owner of '{Folder}'.", denied);
        }
        catch (IOException busy)
        {
            throw new FaultException(FaultReason.RepositoryBusy, $"The controller in '{Folder}' runs already: stop it first.", busy);
        }
    }
}
