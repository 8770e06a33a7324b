using System.Collections.Frozen;
using VirtBackup.Core;

namespace VirtBackup.Sealing;

/// <summary>The chunk keys at hand, by scope and generation. Immutable; owns its keys; safe for concurrent use until disposed.</summary>
public sealed class ChunkKeyRing : IDisposable
{
    private readonly FrozenDictionary<(Id16 Scope, ushort Generation), ChunkKeys> _keys;

    /// <param name="idKeys">Keys to derive from; they stay the caller's.</param>
    public ChunkKeyRing(IEnumerable<IdKey> idKeys)
    {
        ArgumentNullException.ThrowIfNull(idKeys);
        _keys = idKeys.ToFrozenDictionary(key => (key.Scope, key.Generation), key => key.DeriveChunkKeys());
    }

    /// <summary>The keys of a scope and generation, or null.</summary>
    public ChunkKeys? Find(Id16 scope, ushort generation) => _keys.GetValueOrDefault((scope, generation));

    public void Dispose()
    {
        foreach (var keys in _keys.Values)
        {
            keys.Dispose();
        }
    }
}
