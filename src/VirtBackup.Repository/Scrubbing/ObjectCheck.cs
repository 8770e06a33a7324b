using VirtBackup.Core;
using VirtBackup.Database;
using VirtBackup.Format;
using VirtBackup.Format.Keys;
using VirtBackup.Format.Manifests;
using VirtBackup.Repository.Index;
using VirtBackup.Repository.Points;
using VirtBackup.Repository.Verification;

namespace VirtBackup.Repository.Scrubbing;

/// <summary>Checks all objects that are not packs, each by itself. Use an instance once.</summary>
/// <param name="changingPoints">Held by whoever forgets, recalls or purges a point.</param>
internal sealed class ObjectCheck(IObjectStore store, IDatabase index, RepositoryHead head, IManifestSignatureVerifier signatures, Gate changingPoints)
{
    private const int AgentKeyBytesMax = 1024;

    private readonly DamageLog _log = new();

    public async ValueTask<IReadOnlyList<Damage>> RunAsync(CancellationToken cancellationToken)
    {
        await new HeadVerifier(store, head, _log).VerifyAsync(cancellationToken);
        await CheckManifestsAsync(cancellationToken);
        await CheckAgentKeysAsync(cancellationToken);
        await foreach (var info in store.ListAsync(ObjectKeys.LocksPrefix, cancellationToken))
        {
            if (!ObjectKeys.TryParseLock(info.Key, out _, out _))
            {
                _log.Add(info.Key, "The object is not named as a retention lock.");
            }
        }
        return _log.ToList();
    }

    private async ValueTask CheckManifestsAsync(CancellationToken cancellationToken)
    {
        var points = new PointVerifier(store, index, _log, new PackDamage(), new VerificationOptions { Signatures = signatures });
        foreach (var (info, isForgotten) in await index.ReadAsync(PointTable.ListAll, cancellationToken))
        {
            var key = PointKeeper.KeyOf(info, isForgotten);
            Manifest? manifest = null;
            try
            {
                manifest = await points.VerifyHeadAsync(key, info.Vm, info.Point, cancellationToken);
            }
            catch (FaultException fault) when (fault.Reason == FaultReason.NotFound)
            {
                // Looked up again: it may have been forgotten, recalled or purged meanwhile.
                if (await IsMissingAsync(key, info.Point, isForgotten, cancellationToken))
                {
                    Affect(_log.Add(key, "The manifest of this recovery point is missing."), info);
                }
                continue;
            }
            if (manifest is not null && manifest.Hash != info.ManifestHash)
            {
                Affect(_log.Add(key, "The manifest is not the one that was committed."), info);
            }
        }
    }

    private async ValueTask<bool> IsMissingAsync(string key, Id16 point, bool isForgotten, CancellationToken cancellationToken)
    {
        // While a point changes, store and index differ for a moment.
        using var changing = await changingPoints.CloseAsync(cancellationToken);
        return await store.FindAsync(key, cancellationToken) is null && await index.ReadAsync(
            connection => isForgotten ? PointTable.FindForgotten(connection, point) is not null : PointTable.Find(connection, point) is not null, cancellationToken);
    }

    /// <summary>Without its manifest nobody knows the streams: the point as a whole.</summary>
    private static void Affect(DamageLog.Entry entry, RecoveryPointInfo info) =>
        entry.Affect(new AffectedRange(info.Vm, info.Point, Id16.Empty, new ByteRange(0, info.StreamBytes)));

    private async ValueTask CheckAgentKeysAsync(CancellationToken cancellationToken)
    {
        await foreach (var info in store.ListAsync(ObjectKeys.AgentsPrefix, cancellationToken))
        {
            try
            {
                if (!ObjectKeys.TryParseAgent(info.Key, out var id) || KeyId.Compute(await store.ReadAllAsync(info.Key, AgentKeyBytesMax, cancellationToken)) != id)
                {
                    _log.Add(info.Key, "The object does not hold the key that it is named after.");
                }
            }
            catch (FaultException fault) when (fault.Reason == FaultReason.Malformed)
            {
                _log.Add(info.Key, fault.Message);
            }
        }
    }
}
