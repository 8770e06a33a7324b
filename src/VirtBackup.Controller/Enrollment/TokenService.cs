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

    /// <param name="agentName">The only name that the token admits; empty: any.</param>
    /// <param name="lifetimeMinutes">0: <see cref="DefaultMinutes"/>.</param>
    /// <returns>The token's text, to be shown once, and when it expires.</returns>
    public async ValueTask<(string Text, DateTimeOffset Expires)> CreateAsync(string agentName, uint lifetimeMinutes, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(agentName);
        if (lifetimeMinutes > MinutesMax)
        {
            throw new FaultException(FaultReason.InvalidArgument, $"A join token lives at most {MinutesMax} minutes (7 days).");
        }
        var now = time.GetUtcNow();
        using var token = JoinToken.Create(
            entropy, authority.CertificateHash, now.AddMinutes(lifetimeMinutes == 0 ? DefaultMinutes : lifetimeMinutes),
            new JoinTokenDetails { Endpoints = [$"https://{identity.DialAddress}"], Role = PeerRole.Agent, Name = agentName.Length == 0 ? null : agentName });
        var record = token.ToRecord();
        await tokens.AddAsync(
            new TokenRow(record.Id, record.SecretHash, record.Name, now.ToUnixTimeMilliseconds(), record.Expires.ToUnixTimeMilliseconds(), null), cancellationToken);
        LogCreated(record.Id, record.Name ?? "any agent", record.Expires);
        return (token.ToText(), record.Expires);
    }

    /// <summary>The stored token that this one is, redeemable now.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.Denied"/>: unknown, wrong, used or expired.</exception>
    internal async ValueTask<TokenRow> RequireAsync(JoinToken token, CancellationToken cancellationToken)
    {
        var row = await tokens.FindAsync(token.Id, cancellationToken)
            ?? throw new FaultException(FaultReason.Denied, "The join token is not one of this controller's: ask its operator for a new one.");
        DateTimeOffset? used = row.UsedMs is { } ms ? DateTimeOffset.FromUnixTimeMilliseconds(ms) : null;
        _ = new JoinTokenRecord(row.Id, row.SecretHash, DateTimeOffset.FromUnixTimeMilliseconds(row.ExpiresMs), PeerRole.Agent, row.AgentName, used)
            .Redeem(token.Secret, time);
        return row;
    }

    [LoggerMessage(Level = LogLevel.Information, Message = "Join token {TokenId} was made for {Agent}; it expires {Expires:u}.")]
    private partial void LogCreated(Id16 tokenId, string agent, DateTimeOffset expires);
}
