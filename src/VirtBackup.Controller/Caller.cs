using VirtBackup.Core;
using VirtBackup.Identity;

namespace VirtBackup.Controller;

/// <summary>Who makes a call, as its certificate says.</summary>
public sealed record Caller(PeerRole Role, string Name, Id16 KeyId, Id16 Serial)
{
    public static Caller From(PeerIdentity peer)
    {
        ArgumentNullException.ThrowIfNull(peer);
        return new Caller(peer.Role, peer.Name, peer.KeyId, peer.Serial);
    }
}
