namespace VirtBackup.Identity;

/// <summary>The key and the certificate with which this controller calls one other controller, and that controller's root.</summary>
public sealed class PeerKeyStore : ClientKeyStore
{
    internal PeerKeyStore(string folder, string peer, TimeProvider time)
        : base(folder, $"remove the peer and add it again with a new join token (virtbackup peer remove {peer}; virtbackup peer add {peer})", time)
    {
    }
}
