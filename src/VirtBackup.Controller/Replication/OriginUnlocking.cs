using System.Security.Cryptography;
using Microsoft.Extensions.Logging;
using VirtBackup.Catalog;
using VirtBackup.Controller.Store;
using VirtBackup.Core;
using VirtBackup.Format;
using VirtBackup.Format.Keys;
using VirtBackup.Identity;
using VirtBackup.Repository;
using VirtBackup.Sealing;

namespace VirtBackup.Controller.Replication;

/// <summary>
/// Takes the keys of other sites from their recovery kits. The wrapped restore keys of those sites came with their points. Safe
/// for concurrent use.
/// </summary>
public sealed partial class OriginUnlocking(
    BackupRepository repository, IObjectStore store, Keyholder keyholder, IOriginKeyFiles? files, CatalogDatabase catalog, PointDescriber describer, ILogger<OriginUnlocking> logger)
{
    /// <summary>Takes what was given before. Before the first call.</summary>
    public void Load()
    {
        foreach (var (origin, escrow) in files?.ReadAll() ?? [])
        {
            try
            {
                keyholder.Add(origin, EscrowKeys.Parse(escrow));
            }
            catch (FaultException damaged)
            {
                LogDamaged(origin, damaged.Message);
            }
            finally
            {
                CryptographicOperations.ZeroMemory(escrow);
            }
        }
    }

    /// <summary>Takes the keys from the kit.</summary>
    /// <param name="kitText">The recovery kit's text.</param>
    /// <param name="expected">The repository that the kit should be of; empty: any.</param>
    /// <param name="cancellationToken">Stops before the keys are kept.</param>
    /// <returns>The kit's repository, and how many points that were made there are here.</returns>
    /// <exception cref="FaultException">
    /// <see cref="FaultReason.InvalidArgument"/>: the kit is of another repository; <see cref="FaultReason.NotFound"/>: there are no
    /// points of it here yet; what the kit's reader says.
    /// </exception>
    public async ValueTask<(Id16 Origin, int Points)> UnlockAsync(ReadOnlyMemory<byte> kitText, Id16 expected, CancellationToken cancellationToken)
    {
        using var kit = RecoveryKitText.Parse(kitText.Span);
        if (kit.Repository == repository.Head.Uuid)
        {
            throw new FaultException(FaultReason.InvalidArgument, "This is the recovery kit of this controller's own repository: take the other site's.");
        }
        if (!expected.IsEmpty && expected != kit.Repository)
        {
            throw new FaultException(FaultReason.InvalidArgument, $"The kit is of repository {kit.Repository}, and the peer has {expected}: take that site's kit.");
        }
        if (files is null)
        {
            throw new FaultException(FaultReason.Unsupported, "This controller has no place for the keys of other sites.");
        }
        var keys = await OpenAsync(kit, cancellationToken);
        var bytes = keys.Serialize();
        try
        {
            files.Save(kit.Repository, bytes);
        }
        finally
        {
            CryptographicOperations.ZeroMemory(bytes);
        }
        keyholder.Add(kit.Repository, keys);
        LogUnlocked(kit.Repository);
        return (kit.Repository, await ListAgainAsync(kit.Repository));
    }

    private async ValueTask<EscrowKeys> OpenAsync(RecoveryKit kit, CancellationToken cancellationToken)
    {
        await foreach (var info in store.ListAsync(ObjectKeys.KeyringPrefix, cancellationToken))
        {
            if (info.Key == ObjectKeys.RestoreKey(KeyId.Compute(repository.Head.RestoreKey)))
            {
                continue;
            }
            var root = RootSecret.FromBytes(kit.RootSecret);
            try
            {
                return new EscrowKeys(root, Keyring.Unwrap(WrappedKey.Parse(await store.ReadAllAsync(info.Key, WrappedKey.BytesMax, cancellationToken)), root));
            }
            catch (FaultException other) when (other.Reason is FaultReason.Denied or FaultReason.Corrupt or FaultReason.Malformed or FaultReason.Unsupported)
            {
                // It is another site's.
                root.Dispose();
            }
        }
        throw new FaultException(FaultReason.NotFound, $"No recovery points of repository {kit.Repository}, which the kit is of, have come here yet: replicate first.");
    }

    /// <summary>What was sealed can be described now.</summary>
    private async ValueTask<int> ListAgainAsync(Id16 origin)
    {
        var count = 0;
        foreach (var point in await catalog.Points.ListSealedAsync(origin, CancellationToken.None))
        {
            if (await catalog.Points.FindAsync(point, CancellationToken.None) is { } before && await TryDescribeAsync(point) is { } row)
            {
                await catalog.Points.SaveAsync(
                    row with { Peer = before.Peer, Forgotten = before.Forgotten, StoredBytes = before.StoredBytes }, CancellationToken.None);
                count += before.Forgotten ? 0 : 1;
            }
        }
        return count;
    }

    /// <summary>One that is damaged stays as it is and must not keep the others.</summary>
    private async ValueTask<PointRow?> TryDescribeAsync(Id16 point)
    {
        try
        {
            return await describer.DescribeAsync(point, CancellationToken.None);
        }
        catch (FaultException damaged)
        {
            LogNotDescribed(point, damaged.Message);
            return null;
        }
    }

    [LoggerMessage(Level = LogLevel.Error, Message = "Recovery point {Point} does not open with the keys of its repository: {Reason}")]
    private partial void LogNotDescribed(Id16 point, string reason);

    [LoggerMessage(Level = LogLevel.Warning, Message = "The keys of repository {Repository} were given to this controller: points that were made there can be restored here.")]
    private partial void LogUnlocked(Id16 repository);

    [LoggerMessage(Level = LogLevel.Error, Message = "The kept keys of repository {Repository} cannot be read; unlock it again: {Reason}")]
    private partial void LogDamaged(Id16 repository, string reason);
}
