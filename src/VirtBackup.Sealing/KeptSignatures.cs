using VirtBackup.Core;
using VirtBackup.Format;
using VirtBackup.Format.Manifests;

namespace VirtBackup.Sealing;

/// <summary>Checks manifests' signatures with the agents' public keys that the repository keeps. Safe for concurrent use.</summary>
public sealed class KeptSignatures(IObjectStore store) : IManifestSignatureVerifier
{
    private const int KeyBytesMax = 1 << 10;

    public async ValueTask VerifyAsync(Manifest manifest, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(manifest);
        ManifestSealing.VerifySignature(manifest, await store.ReadAllAsync(ObjectKeys.Agent(manifest.Head.AgentKeyId), KeyBytesMax, cancellationToken));
    }
}
