using VirtBackup.Core;
using VirtBackup.Database;
using VirtBackup.Format;
using VirtBackup.Format.Keys;
using VirtBackup.Repository.Index;

namespace VirtBackup.Repository.Commits;

/// <summary>Stores key objects, sealed VM keys that this repository cannot open, and the public keys of agents.</summary>
internal sealed class KeyKeeper(IObjectStore store, IDatabase index, Id16 repository)
{
    private const int AgentKeyBytesMax = 1024;

    /// <summary>Durable and indexed when it returns. The same bytes may be put again.</summary>
    public async ValueTask PutAsync(ReadOnlyMemory<byte> bytes, CancellationToken cancellationToken)
    {
        var key = KeyObject.Parse(bytes.Span);
        if (key.Repository != repository)
        {
            throw new FaultException(FaultReason.Denied, "The key object was made for another repository.");
        }
        var name = ObjectKeys.VmKey(key.Vm, key.Epoch, key.Recipient);
        if (!await store.PutSameAsync(name, bytes, cancellationToken))
        {
            throw new FaultException(FaultReason.AlreadyExists, $"Another key object is stored as {name} already. Use a new key epoch.");
        }
        await index.WriteAsync(connection => PointTable.AddKey(connection, key.Vm, key.Epoch, key.Recipient), cancellationToken);
    }

    public async ValueTask<Id16> PutAgentKeyAsync(ReadOnlyMemory<byte> subjectPublicKeyInfo, CancellationToken cancellationToken)
    {
        if (subjectPublicKeyInfo.Length is 0 or > AgentKeyBytesMax)
        {
            throw FaultException.Malformed($"A public key of {subjectPublicKeyInfo.Length} bytes is out of bounds.");
        }
        var keyId = KeyId.Compute(subjectPublicKeyInfo.Span);
        return await store.PutSameAsync(ObjectKeys.Agent(keyId), subjectPublicKeyInfo, cancellationToken)
            ? keyId
            : throw FaultException.Corrupt($"The object {ObjectKeys.Agent(keyId)} is damaged: move it out of the repository and try again.");
    }

    public async ValueTask<byte[]> ReadAgentKeyAsync(Id16 keyId, CancellationToken cancellationToken)
    {
        var name = ObjectKeys.Agent(keyId);
        if (await store.FindAsync(name, cancellationToken) is null)
        {
            throw new FaultException(FaultReason.NotFound, $"The public key of agent key {keyId} is not in the repository.");
        }
        var bytes = await store.ReadAllAsync(name, AgentKeyBytesMax, cancellationToken);
        return KeyId.Compute(bytes) == keyId ? bytes : throw FaultException.Corrupt($"The object {name} does not hold the key that it is named after.");
    }
}
