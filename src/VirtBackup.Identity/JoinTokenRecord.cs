using System.Security.Cryptography;
using VirtBackup.Core;

namespace VirtBackup.Identity;

/// <summary>
/// What the controller keeps of a join token: enough to recognise it, not enough to use it. Immutable; whoever stores it
/// replaces an unused record by the used one in one step (compare and set), which makes the token good for one host.
/// </summary>
/// <param name="Id">Names the token.</param>
/// <param name="SecretHash">SHA-256 of the secret.</param>
/// <param name="Expires">From then on the token is refused.</param>
/// <param name="Role">The role that it gives; null: agent.</param>
/// <param name="Name">The name that it gives; null: the newcomer proposes one.</param>
/// <param name="Used">When it was redeemed; null: not yet.</param>
public sealed record JoinTokenRecord(Id16 Id, Id32 SecretHash, DateTimeOffset Expires, PeerRole? Role, string? Name, DateTimeOffset? Used)
{
    /// <summary>Whether this is the token's secret; takes the same time whatever is wrong with it.</summary>
    public bool Matches(ReadOnlySpan<byte> secret)
    {
        Span<byte> presented = stackalloc byte[SHA256.HashSizeInBytes];
        SHA256.HashData(secret, presented);
        return CryptographicOperations.FixedTimeEquals(presented, SecretHash.ToArray());
    }

    /// <summary>
    /// The record to store in place of this one, when the secret is right and the token neither used nor expired. The
    /// secret is judged first: who does not have it learns nothing about the token.
    /// </summary>
    /// <exception cref="FaultException"><see cref="FaultReason.Denied"/>, with the reason.</exception>
    public JoinTokenRecord Redeem(ReadOnlySpan<byte> secret, TimeProvider time)
    {
        ArgumentNullException.ThrowIfNull(time);
        if (!Matches(secret))
        {
            throw new FaultException(FaultReason.Denied, "The join token is not one of this controller's: ask its operator for a new one.");
        }
        var now = time.GetUtcNow();
        if (Used is { } used)
        {
            throw new FaultException(FaultReason.Denied, $"The join token was used at {used:u}, and each is good for one host: make a new one. If nobody here used it, somebody else did.");
        }
        if (now >= Expires)
        {
            throw new FaultException(FaultReason.Denied, $"The join token expired at {Expires:u} and the controller's clock says {now:u}: make a new one.");
        }
        return this with { Used = now };
    }
}
