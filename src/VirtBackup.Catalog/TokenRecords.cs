using VirtBackup.Catalog.Replication;
using VirtBackup.Core;
using VirtBackup.Database;

namespace VirtBackup.Catalog;

/// <summary>What is kept of a join token. Times are Unix milliseconds.</summary>
/// <param name="AgentName">The only name that it admits; null: any.</param>
/// <param name="UsedMs">Null: not yet.</param>
/// <param name="Role">What its bearer becomes; the values of certificates' roles: 1 an agent, 3 another controller.</param>
public sealed record TokenRow(Id16 Id, Id32 SecretHash, string? AgentName, long CreatedMs, long ExpiresMs, long? UsedMs, int Role = 1);

/// <summary>Join tokens. Redeeming one is part of <see cref="AgentRecords.EnrollAsync"/> and of <see cref="PeerRecords.AdmitAsync"/>.</summary>
public sealed class TokenRecords(IDatabase database)
{
    /// <summary>Used and expired tokens are kept this long, to tell people why one is refused.</summary>
    private const long KeptMs = 30L * 24 * 3600 * 1000;

    public ValueTask AddAsync(TokenRow row, CancellationToken cancellationToken) =>
        database.WriteAsync(
            connection =>
            {
                using (var old = connection.Prepare("DELETE FROM join_token WHERE expires_ms < ?1"))
                {
                    old.Bind(1, row.CreatedMs - KeptMs).Execute();
                }
                using var statement = connection.Prepare(
                    "INSERT INTO join_token (id, secret_hash, agent_name, created_ms, expires_ms, role) VALUES (?1, ?2, ?3, ?4, ?5, ?6)");
                statement.Bind(1, row.Id).Bind(2, row.SecretHash).Bind(3, row.AgentName).Bind(4, row.CreatedMs).Bind(5, row.ExpiresMs).Bind(6, row.Role).Execute();
            },
            cancellationToken);

    public ValueTask<TokenRow?> FindAsync(Id16 id, CancellationToken cancellationToken) =>
        database.ReadAsync(
            connection =>
            {
                using var statement = connection.Prepare("SELECT id, secret_hash, agent_name, created_ms, expires_ms, used_ms, role FROM join_token WHERE id = ?1");
                return statement.Bind(1, id).Step()
                    ? new TokenRow(statement.GetId16(0), statement.GetId32(1), statement.GetString(2), statement.GetInt64(3), statement.GetInt64(4), statement.GetTime(5), (int)statement.GetInt64(6))
                    : null;
            },
            cancellationToken);
}
