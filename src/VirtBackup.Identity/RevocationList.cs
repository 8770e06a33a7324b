using System.Collections.Concurrent;
using VirtBackup.Core;

namespace VirtBackup.Identity;

/// <summary>
/// Certificates and keys that are no longer accepted. Asked on every call, not only when a connection opens: a revoked
/// agent may hold one for weeks. Safe for concurrent use; answers from memory.
/// </summary>
public interface IRevocationList
{
    /// <summary>Whether this serial number or this key id was revoked.</summary>
    bool IsRevoked(Id16 serialOrKeyId);

    /// <summary>Whether the peer's certificate or its key was revoked.</summary>
    bool IsRevoked(PeerIdentity peer)
    {
        ArgumentNullException.ThrowIfNull(peer);
        return IsRevoked(peer.Serial) || IsRevoked(peer.KeyId);
    }
}

/// <summary>A revocation list in memory; its owner loads it at start and persists what it adds.</summary>
public sealed class MemoryRevocationList : IRevocationList
{
    private readonly ConcurrentDictionary<Id16, bool> _revoked = new();

    public MemoryRevocationList()
    {
    }

    public MemoryRevocationList(IEnumerable<Id16> serialsAndKeyIds)
    {
        ArgumentNullException.ThrowIfNull(serialsAndKeyIds);
        foreach (var id in serialsAndKeyIds)
        {
            Revoke(id);
        }
    }

    /// <summary>Revokes one certificate (by serial) or every certificate of a key (by key id); false when it was revoked already.</summary>
    public bool Revoke(Id16 serialOrKeyId) => _revoked.TryAdd(serialOrKeyId, true);

    public bool IsRevoked(Id16 serialOrKeyId) => _revoked.ContainsKey(serialOrKeyId);
}
