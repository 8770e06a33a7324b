using VirtBackup.Core;
using VirtBackup.Format;
using VirtBackup.Format.Manifests;
using VirtBackup.Repository.Verification;
using VirtBackup.Sealing;

namespace VirtBackup.Cli.Offline;

/// <summary>Checks manifests' signatures with the agents' public keys that the repository keeps.</summary>
internal sealed class KeptSignatures(IObjectStore store) : IManifestSignatureVerifier
{
    private const int KeyBytesMax = 1 << 10;

    public async ValueTask VerifyAsync(Manifest manifest, CancellationToken cancellationToken) =>
        ManifestSealing.VerifySignature(manifest, await store.ReadAllAsync(ObjectKeys.Agent(manifest.Head.AgentKeyId), KeyBytesMax, cancellationToken));
}
