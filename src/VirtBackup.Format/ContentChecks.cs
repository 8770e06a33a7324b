using VirtBackup.Core;
using VirtBackup.Format.Manifests;
using VirtBackup.Format.Maps;

namespace VirtBackup.Format;

/// <summary>Checks a manifest's signature with the public key of the agent that its head names.</summary>
public interface IManifestSignatureVerifier
{
    /// <exception cref="FaultException">The signature is wrong, or the agent's key is not known.</exception>
    ValueTask VerifyAsync(Manifest manifest, CancellationToken cancellationToken);
}

/// <summary>Opens chunks with keys that the repository does not have, and proves that they hold what the map names.</summary>
public interface IChunkOpener
{
    /// <summary>Whether there are keys for points that were made in this repository: without them nothing is said about their chunks.</summary>
    bool Opens(Id16 origin) => true;

    /// <param name="vm">The machine whose key masks the entry.</param>
    /// <param name="entry">The map's entry, not a zero run.</param>
    /// <param name="record">Header and payload, valid during the call.</param>
    /// <param name="cancellationToken">Stops the work.</param>
    /// <exception cref="FaultException">
    /// <see cref="FaultReason.Corrupt"/>, <see cref="FaultReason.Malformed"/>, <see cref="FaultReason.Unsupported"/>: the record does
    /// not hold the chunk; <see cref="FaultReason.Denied"/>: the entry, or the key that it needs, does not open, and nothing is said
    /// about the record; <see cref="FaultReason.Unavailable"/>: the key cannot be read now.
    /// </exception>
    ValueTask OpenAsync(Id16 vm, MapEntry entry, ReadOnlyMemory<byte> record, CancellationToken cancellationToken);
}
