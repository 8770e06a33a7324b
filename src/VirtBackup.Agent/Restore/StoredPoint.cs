using VirtBackup.Agent.Capture;
using VirtBackup.Core;
using VirtBackup.Format.Manifests;
using VirtBackup.Protocol.Store.V1;
using VirtBackup.Sealing;

namespace VirtBackup.Agent.Restore;

/// <summary>A recovery point opened for reading: verified manifest, its body, and the keys that were granted. Owns the keys.</summary>
internal sealed class StoredPoint : IDisposable
{
    private readonly RestoreGrant _grant;

    private StoredPoint(Manifest manifest, ManifestBody body, RestoreGrant grant)
    {
        Manifest = manifest;
        Body = body;
        _grant = grant;
        ChunkKeys = new ChunkKeyRing(grant.IdKeys);
    }

    public Manifest Manifest { get; }

    public ManifestBody Body { get; }

    public ChunkKeyRing ChunkKeys { get; }

    public IReadOnlyDictionary<Id16, VmKey> VmKeys => _grant.VmKeys;

    /// <exception cref="FaultException">The manifest is not the one asked for, is damaged or not signed, or the grant does not open.</exception>
    public static async Task<StoredPoint> OpenAsync(
        BackupContext context, string jobId, ulong attempt, Id16 machine, Id16 point, CancellationToken cancellationToken)
    {
        using var oneTimeKey = AgreementKey.Create(context.Tools.Entropy);
        var request = new GrantRequest
        {
            Vm = machine,
            Point = point,
            AgentKeyId = context.SignerId,
            Nonce = Id16.Create(context.Tools.Entropy),
            OneTimeKey = oneTimeKey.Public,
        };
        var response = await context.Store.ReadManifestAsync(
            new ReadManifestRequest
            {
                JobId = jobId,
                Attempt = attempt,
                PointId = point.ToString(),
                GrantRequest = Google.Protobuf.ByteString.CopyFrom(request.Sign(context.Signer)),
            },
            cancellationToken);
        var manifest = Manifest.Parse(response.Manifest.Memory);
        if (manifest.Head.Point != point || manifest.Head.Vm != machine)
        {
            throw FaultException.Corrupt($"The controller sent the manifest of recovery point {manifest.Head.Point} instead of {point}.");
        }
        ManifestSealing.VerifySignature(manifest, response.AgentPublicKey.Span);
        var grant = RestoreGrant.Open(response.Grant.Span, request, oneTimeKey, context.Tools.Time.GetUtcNow().ToUnixTimeMilliseconds());
        try
        {
            if (!grant.VmKeys.TryGetValue(manifest.Head.BodyEpoch, out var bodyKey))
            {
                throw FaultException.Corrupt($"The grant for recovery point {point} lacks the key of its description.");
            }
            return new StoredPoint(manifest, ManifestSealing.Open(manifest, bodyKey), grant);
        }
        catch
        {
            grant.Dispose();
            throw;
        }
    }

    public void Dispose()
    {
        ChunkKeys.Dispose();
        _grant.Dispose();
    }
}
