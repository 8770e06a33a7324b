namespace VirtBackup.Identity;

/// <summary>The key and the certificate with which this controller calls one other controller, and that controller's root.</summary>
public sealed class PeerKeyStore : ClientKeyStore
{
    internal PeerKeyStore(string folder, string peer, TimeProvider time)
        : base(folder, $"join that controller again with a new token (virtbackup peer add {peer})", time)
    {
    }
}
