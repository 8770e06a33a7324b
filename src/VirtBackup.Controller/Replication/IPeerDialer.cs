using VirtBackup.Core;
using VirtBackup.Protocol.Transport;

namespace VirtBackup.Controller.Replication;

/// <summary>
/// The way to other controllers, with the keys that this one has of them. The host keeps them in the controller's home:
/// <c>peers/NAME</c> with the private key, the certificate that the peer issued and the peer's root; where it is called stands in
/// the catalog. Safe for concurrent use.
/// </summary>
public interface IPeerDialer
{
    /// <summary>Makes a key, exchanges the token for a certificate at the other controller, and keeps both; durable when it returns.</summary>
    /// <param name="peer">What it is called here.</param>
    /// <param name="controller"><c>host:port</c>; empty: where the token says.</param>
    /// <param name="joinToken">Made there.</param>
    /// <param name="cancellationToken">Stops before anything is kept.</param>
    /// <exception cref="FaultException">What the other controller says; <see cref="FaultReason.Unavailable"/>: it could not be reached.</exception>
    ValueTask<PeerAdmission> JoinAsync(string peer, string controller, string joinToken, CancellationToken cancellationToken);

    /// <summary>When the certificate that this site has of the peer expires; null: it has none.</summary>
    DateTimeOffset? FindExpiry(string peer);

    /// <summary>Connections are made when they are needed; each call of this method gives a connection of its own.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.FailedPrecondition"/>: this site has no certificate of the peer.</exception>
    IReplicationTransport Open(string peer, string controller);

    /// <summary>Forgets key and certificate; nothing happens when there are none.</summary>
    void Remove(string peer);
}

/// <param name="Controller"><c>host:port</c> that was reached.</param>
/// <param name="Repository">Of the other site.</param>
public sealed record PeerAdmission(string Controller, Id16 Repository);
