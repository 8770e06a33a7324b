using VirtBackup.Core;
using VirtBackup.Database;
using VirtBackup.Format;
using VirtBackup.Format.Keys;
using VirtBackup.Repository.Index;

namespace VirtBackup.Repository.Commits;

/// <summary>Stores key objects: sealed VM keys that this repository cannot open.</summary>
internal sealed class KeyKeeper(IObjectStore store, IDatabase index, Id16 repository)
{
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
}
