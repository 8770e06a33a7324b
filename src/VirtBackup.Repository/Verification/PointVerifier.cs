using VirtBackup.Core;
using VirtBackup.Database;
using VirtBackup.Format;
using VirtBackup.Format.Manifests;

namespace VirtBackup.Repository.Verification;

/// <summary>Checks recovery points: manifest, signature, key objects, and everything below the roots.</summary>
internal sealed class PointVerifier(IObjectStore store, IDatabase index, DamageLog log, PackDamage damage, VerificationOptions options)
{
    private readonly KeyObjectVerifier _keys = new(store, log);
    private readonly TreeVerifier _trees = new(store, index, log, damage, options.Opener);

    public long Points { get; private set; }

    public long ChunksOpened => _trees.ChunksOpened;

    /// <param name="info">An object under the prefix of manifests.</param>
    /// <param name="cancellationToken">Stops the work.</param>
    /// <returns>The point, when it is whole enough to be named.</returns>
    public async ValueTask<Id16?> VerifyAsync(ObjectInfo info, CancellationToken cancellationToken)
    {
        if (!ObjectKeys.TryParseManifest(info.Key, out var vm, out var point))
        {
            log.Add(info.Key, "The object is not named as a manifest.");
            return null;
        }
        var (manifest, isTombstone) = await CheckAsync(info.Key, vm, point, cancellationToken);
        if (manifest is null)
        {
            return isTombstone ? null : point;
        }
        var lockedEpochs = await VerifyKeysAsync(manifest, cancellationToken);
        foreach (var stream in manifest.Head.Streams)
        {
            await _trees.VerifyAsync(manifest.Head, stream, lockedEpochs, cancellationToken);
        }
        Points++;
        return point;
    }

    /// <summary>Checks a manifest, its signature and its key objects, and nothing below it.</summary>
    /// <returns>The manifest, if it can be read and is the one that its name says.</returns>
    public async ValueTask<Manifest?> VerifyHeadAsync(string key, Id16 vm, Id16 point, CancellationToken cancellationToken)
    {
        var (manifest, _) = await CheckAsync(key, vm, point, cancellationToken);
        if (manifest is not null)
        {
            await VerifyKeysAsync(manifest, cancellationToken);
        }
        return manifest;
    }

    private async ValueTask<(Manifest? Manifest, bool IsTombstone)> CheckAsync(string key, Id16 vm, Id16 point, CancellationToken cancellationToken)
    {
        Manifest manifest;
        try
        {
            var bytes = await store.ReadAllAsync(key, Limits.ManifestBytesMax, cancellationToken);
            if (AbortTombstone.IsTombstone(bytes))
            {
                AbortTombstone.Parse(bytes);
                return (null, true);
            }
            manifest = Manifest.Parse(bytes);
        }
        catch (FaultException fault) when (fault.Reason is FaultReason.Malformed or FaultReason.Corrupt or FaultReason.Unsupported)
        {
            log.Add(key, fault.Message);
            return (null, false);
        }
        if (manifest.Head.Vm != vm || manifest.Head.Point != point)
        {
            log.Add(key, "It is the manifest of another recovery point than its name says.");
            return (null, false);
        }
        await VerifySignatureAsync(key, manifest, cancellationToken);
        return (manifest, false);
    }

    private async ValueTask VerifySignatureAsync(string key, Manifest manifest, CancellationToken cancellationToken)
    {
        try
        {
            await options.Signatures.VerifyAsync(manifest, cancellationToken);
        }
        catch (FaultException fault)
        {
            AffectAll(log.Add(key, fault.Message), manifest.Head);
        }
    }

    /// <summary>Epochs whose key objects are damaged or missing.</summary>
    private async ValueTask<IReadOnlySet<Id16>> VerifyKeysAsync(Manifest manifest, CancellationToken cancellationToken)
    {
        var damaged = new HashSet<Id16>();
        foreach (var epoch in manifest.Head.Epochs)
        {
            var found = await _keys.FindDamageAsync(manifest.Head.Repository, manifest.Head.Vm, epoch, cancellationToken);
            if (found is not null)
            {
                AffectAll(found, manifest.Head);
                damaged.Add(epoch);
            }
        }
        return damaged;
    }

    private static void AffectAll(DamageLog.Entry entry, ManifestHead head)
    {
        foreach (var stream in head.Streams)
        {
            entry.Affect(new AffectedRange(head.Vm, head.Point, stream.Id, new ByteRange(0, stream.Geometry.StreamLength)));
        }
    }
}
