using VirtBackup.Core;
using VirtBackup.Database;

namespace VirtBackup.Catalog;

/// <summary>One enrolled agent. Times are Unix milliseconds.</summary>
public sealed record AgentRow
{
    public required string Name { get; init; }

    /// <summary>Of the key in its TLS certificate.</summary>
    public required Id16 TlsKeyId { get; init; }

    /// <summary>Of the key that signs its manifests.</summary>
    public required Id16 SigningKeyId { get; init; }

    /// <summary>SubjectPublicKeyInfo of the key that signs its manifests.</summary>
    public required byte[] SigningKey { get; init; }

    /// <summary>Of its newest certificate.</summary>
    public required Id16 Serial { get; init; }

    public required long CertificateExpiresMs { get; init; }

    public required long EnrolledMs { get; init; }

    public long LastSeenMs { get; init; }

    /// <summary>Null: not revoked.</summary>
    public long? RevokedMs { get; init; }

    public string Version { get; init; } = "";

    public string HostName { get; init; } = "";

    public string HypervisorKind { get; init; } = "";

    /// <summary>Of its process, as its last hello said; empty before the first.</summary>
    public Id16 BootId { get; init; }
}

/// <summary>Enrolled agents and what is no longer accepted of them.</summary>
public sealed class AgentRecords(IDatabase database)
{
    private const string Columns =
        "name, tls_key_id, signing_key_id, signing_key, serial, certificate_expires_ms, enrolled_ms, last_seen_ms, revoked_ms, version, host_name, hypervisor_kind, boot_id";

    public ValueTask<AgentRow?> FindAsync(string name, CancellationToken cancellationToken) =>
        database.ReadAsync(connection => Find(connection, name), cancellationToken);

    /// <summary>Agents in the order of their names, behind <paramref name="after"/>.</summary>
    public ValueTask<List<AgentRow>> ListAsync(string after, int count, CancellationToken cancellationToken) =>
        database.ReadAsync(
            connection =>
            {
                var rows = new List<AgentRow>();
                using var statement = connection.Prepare($"SELECT {Columns} FROM agent WHERE name > ?1 ORDER BY name LIMIT ?2");
                statement.Bind(1, after).Bind(2, count);
                while (statement.Step())
                {
                    rows.Add(Read(statement));
                }
                return rows;
            },
            cancellationToken);

    public ValueTask<int> CountAsync(CancellationToken cancellationToken) =>
        database.ReadAsync(
            static connection =>
            {
                using var statement = connection.Prepare("SELECT count(*) FROM agent WHERE revoked_ms IS NULL");
                statement.Step();
                return (int)statement.GetInt64(0);
            },
            cancellationToken);

    /// <summary>
    /// Redeems the token and stores the agent in one transaction, so that a token is good for one agent. The keys of an
    /// earlier agent of this name are revoked by it; they are returned.
    /// </summary>
    /// <exception cref="FaultException"><see cref="FaultReason.Denied"/>: the token was used by somebody else meanwhile.</exception>
    public ValueTask<IReadOnlyList<Id16>> EnrollAsync(AgentRow agent, Id16 tokenId, CancellationToken cancellationToken) =>
        database.WriteAsync<IReadOnlyList<Id16>>(
            connection =>
            {
                using (var token = connection.Prepare("UPDATE join_token SET used_ms = ?2, used_by = ?3 WHERE id = ?1 AND used_ms IS NULL"))
                {
                    if (token.Bind(1, tokenId).Bind(2, agent.EnrolledMs).Bind(3, agent.Name).Execute() != 1)
                    {
                        throw new FaultException(FaultReason.Denied, "The join token was used already, and each is good for one host: make a new one.");
                    }
                }
                List<Id16> retired = [];
                if (Find(connection, agent.Name) is { } earlier && earlier.TlsKeyId != agent.TlsKeyId)
                {
                    retired.Add(earlier.TlsKeyId);
                    Revoke(connection, earlier.TlsKeyId, agent.Name, agent.EnrolledMs);
                }
                Save(connection, agent);
                return retired;
            },
            cancellationToken);

    /// <summary>Notes a renewed certificate; false when the agent is revoked or has another key by now.</summary>
    public ValueTask<bool> RenewAsync(string name, Id16 tlsKeyId, Id16 serial, long expiresMs, CancellationToken cancellationToken) =>
        database.WriteAsync(
            connection =>
            {
                using var statement = connection.Prepare(
                    "UPDATE agent SET serial = ?3, certificate_expires_ms = ?4 WHERE name = ?1 AND tls_key_id = ?2 AND revoked_ms IS NULL");
                return statement.Bind(1, name).Bind(2, tlsKeyId).Bind(3, serial).Bind(4, expiresMs).Execute() == 1;
            },
            cancellationToken);

    /// <summary>Notes a hello.</summary>
    public ValueTask SetConnectedAsync(string name, string version, Id16 bootId, long nowMs, CancellationToken cancellationToken) =>
        database.WriteAsync(
            connection =>
            {
                using var statement = connection.Prepare("UPDATE agent SET version = ?2, boot_id = ?3, last_seen_ms = ?4 WHERE name = ?1");
                statement.Bind(1, name).Bind(2, version).Bind(3, bootId).Bind(4, nowMs).Execute();
            },
            cancellationToken);

    public ValueTask SetSeenAsync(string name, long nowMs, CancellationToken cancellationToken) =>
        database.WriteAsync(
            connection =>
            {
                using var statement = connection.Prepare("UPDATE agent SET last_seen_ms = ?2 WHERE name = ?1 AND last_seen_ms < ?2");
                statement.Bind(1, name).Bind(2, nowMs).Execute();
            },
            cancellationToken);

    public ValueTask SetHostAsync(string name, string hostName, string hypervisorKind, CancellationToken cancellationToken) =>
        database.WriteAsync(
            connection =>
            {
                using var statement = connection.Prepare("UPDATE agent SET host_name = ?2, hypervisor_kind = ?3 WHERE name = ?1");
                statement.Bind(1, name).Bind(2, hostName).Bind(3, hypervisorKind).Execute();
            },
            cancellationToken);

    /// <summary>Revokes the agent's key; durable when it returns.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.NotFound"/>.</exception>
    public ValueTask<AgentRow> RevokeAsync(string name, long nowMs, CancellationToken cancellationToken) =>
        database.WriteAsync(
            connection =>
            {
                var row = Find(connection, name) ?? throw new FaultException(FaultReason.NotFound, $"There is no agent called '{name}'.");
                if (row.RevokedMs is null)
                {
                    row = row with { RevokedMs = nowMs };
                    Save(connection, row);
                }
                Revoke(connection, row.TlsKeyId, name, nowMs);
                return row;
            },
            cancellationToken);

    /// <summary>Every revoked key id and serial number.</summary>
    public ValueTask<List<Id16>> ListRevokedAsync(CancellationToken cancellationToken) =>
        database.ReadAsync(
            static connection =>
            {
                var ids = new List<Id16>();
                using var statement = connection.Prepare("SELECT id FROM revoked");
                while (statement.Step())
                {
                    ids.Add(statement.GetId16(0));
                }
                return ids;
            },
            cancellationToken);

    private static AgentRow? Find(ISqlConnection connection, string name)
    {
        using var statement = connection.Prepare($"SELECT {Columns} FROM agent WHERE name = ?1");
        return statement.Bind(1, name).Step() ? Read(statement) : null;
    }

    private static void Revoke(ISqlConnection connection, Id16 id, string agent, long nowMs)
    {
        using var statement = connection.Prepare("INSERT INTO revoked (id, agent, revoked_ms) VALUES (?1, ?2, ?3) ON CONFLICT (id) DO NOTHING");
        statement.Bind(1, id).Bind(2, agent).Bind(3, nowMs).Execute();
    }

    private static void Save(ISqlConnection connection, AgentRow row)
    {
        using (var old = connection.Prepare("DELETE FROM agent WHERE name = ?1"))
        {
            old.Bind(1, row.Name).Execute();
        }
        using var statement = connection.Prepare($"INSERT INTO agent ({Columns}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)");
        statement.Bind(1, row.Name).Bind(2, row.TlsKeyId).Bind(3, row.SigningKeyId).Bind(4, row.SigningKey).Bind(5, row.Serial)
            .Bind(6, row.CertificateExpiresMs).Bind(7, row.EnrolledMs).Bind(8, row.LastSeenMs)
            .Bind(10, row.Version).Bind(11, row.HostName).Bind(12, row.HypervisorKind).Bind(13, row.BootId);
        statement.BindTime(9, row.RevokedMs).Execute();
    }

    private static AgentRow Read(IStatement statement) => new()
    {
        Name = statement.GetString(0)!,
        TlsKeyId = statement.GetId16(1),
        SigningKeyId = statement.GetId16(2),
        SigningKey = statement.GetBytes(3),
        Serial = statement.GetId16(4),
        CertificateExpiresMs = statement.GetInt64(5),
        EnrolledMs = statement.GetInt64(6),
        LastSeenMs = statement.GetInt64(7),
        RevokedMs = statement.GetTime(8),
        Version = statement.GetString(9)!,
        HostName = statement.GetString(10)!,
        HypervisorKind = statement.GetString(11)!,
        BootId = statement.GetId16(12),
    };
}
