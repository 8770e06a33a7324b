using VirtBackup.Core;
using VirtBackup.Format;
using VirtBackup.Format.Manifests;
using VirtBackup.Format.Maps;

namespace VirtBackup.Proofs.FlipBytes;

/// <summary>Planted defect: any signature is right.</summary>
internal sealed class NoSignatureCheck : IManifestSignatureVerifier
{
    public ValueTask VerifyAsync(Manifest manifest, CancellationToken cancellationToken) => ValueTask.CompletedTask;
}

/// <summary>Planted defect: any record holds the chunk.</summary>
internal sealed class NoChunkCheck : IChunkOpener
{
    public ValueTask OpenAsync(Id16 vm, MapEntry entry, ReadOnlyMemory<byte> record, CancellationToken cancellationToken) => ValueTask.CompletedTask;
}
