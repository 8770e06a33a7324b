using Microsoft.Extensions.Logging;
using VirtBackup.Catalog;
using VirtBackup.Core;
using VirtBackup.Identity;

namespace VirtBackup.Controller.Enrollment;

/// <summary>Makes join tokens.</summary>
public sealed partial class TokenService(
    ControllerIdentity identity, CertificateAuthority authority, TokenRecords tokens, IEntropy entropy, TimeProvider time, ILogger<TokenService> logger)
{
    /// <summary>Lifetime unless asked otherwise.</summary>
    public const int DefaultMinutes = 60;

    public const int MinutesMax = 10_080;

    /// <param name="name">The only name that the token admits; empty: any.</param>
    /// <param name="lifetimeMinutes">0: <see cref="DefaultMinutes"/>.</param>
    /// <param name="role">What its bearer becomes: an agent or a peer.</param>
    /// <param name="cancellationToken">Ends the call.</param>
    /// <returns>The token's text, to be shown once, and when it expires.</returns>
    public async ValueTask<(string Text, DateTimeOffset Expires)> CreateAsync(string name, uint lifetimeMinutes, PeerRole role, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(name);
        if (lifetimeMinutes > MinutesMax)
        {
            throw new FaultException(FaultReason.InvalidArgument, $"A join token lives at most {MinutesMax} minutes (7 days).");
        }
        var now = time.GetUtcNow();
        using var token = JoinToken.Create(
            entropy, authority.CertificateHash, now.AddMinutes(lifetimeMinutes == 0 ? DefaultMinutes : lifetimeMinutes),
            new JoinTokenDetails { Endpoints = [$"https://{identity.DialAddress}"], Role = role, Name = name.Length == 0 ? null : name });
        var record = token.ToRecord();
        await tokens.AddAsync(
            new TokenRow(record.Id, record.SecretHash, record.Name, now.ToUnixTimeMilliseconds(), record.Expires.ToUnixTimeMilliseconds(), null, (int)role),
            cancellationToken);
        LogCreated(record.Id, role.ToText(), record.Name ?? "of any name", record.Expires);
        return (token.ToText(), record.Expires);
    }

    /// <summary>The stored token that this one is, redeemable now by one who becomes this.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.Denied"/>: unknown, wrong, used, expired, or for another role.</exception>
    internal async ValueTask<TokenRow> RequireAsync(JoinToken token, PeerRole role, CancellationToken cancellationToken)
    {
        var row = await tokens.FindAsync(token.Id, cancellationToken)
            ?? throw new FaultException(FaultReason.Denied, "The join token is not one of this controller's: ask its operator for a new one.");
        DateTimeOffset? used = row.UsedMs is { } ms ? DateTimeOffset.FromUnixTimeMilliseconds(ms) : null;
        _ = new JoinTokenRecord(row.Id, row.SecretHash, DateTimeOffset.FromUnixTimeMilliseconds(row.ExpiresMs), (PeerRole)row.Role, row.AgentName, used)
            .Redeem(token.Secret, time);
        // Judged last: who does not have the secret learns nothing about the token. What the token itself says does not count.
        return row.Role == (int)role
            ? row
            : throw new FaultException(FaultReason.Denied, role == PeerRole.Peer
                ? "The join token is for an agent, not for another controller: make one with 'virtbackup peer token'."
                : "The join token is for another controller, not for an agent: make one with 'virtbackup agent token'.");
    }

    [LoggerMessage(Level = LogLevel.Information, Message = "Join token {TokenId} was made for {Role} {Name}; it expires {Expires:u}.")]
    private partial void LogCreated(Id16 tokenId, string role, string name, DateTimeOffset expires);
}
