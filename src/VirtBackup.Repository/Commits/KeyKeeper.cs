using VirtBackup.Core;
using VirtBackup.Database;
using VirtBackup.Format;
using VirtBackup.Format.Keys;
using VirtBackup.Repository.Index;

namespace VirtBackup.Repository.Commits;

/// <summary>Stores key objects, sealed VM keys that this repository cannot open, and the public keys of agents.</summary>
internal sealed class KeyKeeper(IObjectStore store, IDatabase index, Id16 repository)
{
    public const int AgentKeyBytesMax = 1024;

    /// <summary>Durable and indexed when it returns. The same bytes may be put again.</summary>
    /// <param name="bytes">The key object.</param>
    /// <param name="origin">The repository for which it must have been made; empty: this one.</param>
    /// <param name="cancellationToken">Stops before the change.</param>
    public async ValueTask PutAsync(ReadOnlyMemory<byte> bytes, Id16 origin, CancellationToken cancellationToken)
    {
        var key = KeyObject.Parse(bytes.Span);
        if (key.Repository != (origin.IsEmpty ? repository : origin))
        {
            throw new FaultException(FaultReason.Denied, "The key object was made for another repository.");
        }
        await RequireOriginAsync(key, cancellationToken);
        var name = ObjectKeys.VmKey(key.Vm, key.Epoch, key.Recipient);
        if (!await store.PutSameAsync(name, bytes, cancellationToken))
        {
            throw new FaultException(FaultReason.AlreadyExists, $"Another key object is stored as {name} already. Use a new key epoch.");
        }
        await index.WriteAsync(connection => PointTable.AddKey(connection, key.Vm, key.Epoch, key.Recipient), cancellationToken);
    }

    /// <summary>An epoch is of one repository: whoever holds keys of another must not mix theirs in.</summary>
    private async ValueTask RequireOriginAsync(KeyObject key, CancellationToken cancellationToken)
    {
        foreach (var recipient in await index.ReadAsync(connection => PointTable.ListRecipients(connection, key.Vm, key.Epoch), cancellationToken))
        {
            if (recipient != key.Recipient && await FindOriginAsync(ObjectKeys.VmKey(key.Vm, key.Epoch, recipient), cancellationToken) is { } origin && origin != key.Repository)
            {
                throw new FaultException(FaultReason.Denied, $"The key epoch {key.Epoch} of VM {key.Vm} belongs to another repository. Use a new key epoch.");
            }
        }
    }

    /// <summary>Null: the key object is damaged or gone, and says nothing.</summary>
    private async ValueTask<Id16?> FindOriginAsync(string name, CancellationToken cancellationToken)
    {
        try
        {
            return KeyObject.Parse(await store.ReadAllAsync(name, KeyObject.Size, cancellationToken)).Repository;
        }
        catch (FaultException fault) when (fault.Reason is FaultReason.NotFound || StoreHealth.IsDamage(fault))
        {
            return null;
        }
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
