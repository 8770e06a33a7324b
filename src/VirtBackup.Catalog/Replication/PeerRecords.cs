using VirtBackup.Core;
using VirtBackup.Database;

namespace VirtBackup.Catalog.Replication;

/// <summary>Other controllers: what they may read here, and how they and this one reach each other.</summary>
public sealed class PeerRecords(IDatabase database)
{
    public const int CountMax = 256;

    public const int MachinesMax = 1000;

    private const string Columns =
        "name, repository_id, created_ms, tls_key_id, serial, certificate_expires_ms, revoked_ms, controller, offer, allow_all, allowed_revision, version, last_seen_ms";

    public ValueTask<PeerRow?> FindAsync(string name, CancellationToken cancellationToken) =>
        database.ReadAsync(connection => Find(connection, name), cancellationToken);

    /// <exception cref="FaultException"><see cref="FaultReason.NotFound"/>.</exception>
    public async ValueTask<PeerRow> RequireAsync(string name, CancellationToken cancellationToken) => await FindAsync(name, cancellationToken) ?? throw Unknown(name);

    /// <summary>All of them by name.</summary>
    public ValueTask<List<PeerRow>> ListAsync(CancellationToken cancellationToken) =>
        database.ReadAsync(
            static connection =>
            {
                var rows = new List<PeerRow>();
                using var statement = connection.Prepare($"SELECT {Columns} FROM peer ORDER BY name");
                while (statement.Step())
                {
                    rows.Add(Read(statement));
                }
                return rows;
            },
            cancellationToken);

    /// <summary>Makes the peer known if it is not yet; nothing is allowed to a new one.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.FailedPrecondition"/>: there are <see cref="CountMax"/>.</exception>
    public ValueTask EnsureAsync(string name, long nowMs, CancellationToken cancellationToken) =>
        database.WriteAsync(connection => { _ = Ensure(connection, name, nowMs); }, cancellationToken);

    /// <summary>
    /// Redeems the token and notes the certificate in one transaction, so that a token is good for one controller. The key of an
    /// earlier certificate is revoked by it, and returned. A peer that was revoked may call again.
    /// </summary>
    /// <exception cref="FaultException"><see cref="FaultReason.Denied"/>: the token was used by somebody else meanwhile.</exception>
    public ValueTask<Id16?> AdmitAsync(string name, Id16 tlsKeyId, Id16 serial, long expiresMs, Id16 tokenId, long nowMs, CancellationToken cancellationToken) =>
        database.WriteAsync<Id16?>(
            connection =>
            {
                using (var token = connection.Prepare("UPDATE join_token SET used_ms = ?2, used_by = ?3 WHERE id = ?1 AND used_ms IS NULL"))
                {
                    if (token.Bind(1, tokenId).Bind(2, nowMs).Bind(3, name).Execute() != 1)
                    {
                        throw new FaultException(FaultReason.Denied, "The join token was used already, and each is good for one controller: make a new one.");
                    }
                }
                var row = Ensure(connection, name, nowMs);
                Id16? retired = null;
                if (!row.TlsKeyId.IsEmpty && row.TlsKeyId != tlsKeyId)
                {
                    retired = row.TlsKeyId;
                    Revoke(connection, row.TlsKeyId, name, nowMs);
                }
                Save(connection, row with { TlsKeyId = tlsKeyId, Serial = serial, CertificateExpiresMs = expiresMs, RevokedMs = null });
                return retired;
            },
            cancellationToken);

    /// <summary>Notes a renewed certificate; false when the peer is revoked, gone or has another key by now.</summary>
    public ValueTask<bool> RenewAsync(string name, Id16 tlsKeyId, Id16 serial, long expiresMs, CancellationToken cancellationToken) =>
        database.WriteAsync(
            connection =>
            {
                using var statement = connection.Prepare(
                    "UPDATE peer SET serial = ?3, certificate_expires_ms = ?4 WHERE name = ?1 AND tls_key_id = ?2 AND revoked_ms IS NULL");
                return statement.Bind(1, name).Bind(2, tlsKeyId).Bind(3, serial).Bind(4, expiresMs).Execute() == 1;
            },
            cancellationToken);

    /// <summary>Notes where this site calls the peer, whose certificate it has.</summary>
    public ValueTask SetControllerAsync(string name, string controller, Id16 repositoryId, long nowMs, CancellationToken cancellationToken) =>
        database.WriteAsync(
            connection =>
            {
                _ = Save(connection, Ensure(connection, name, nowMs) with { Controller = controller, RepositoryId = repositoryId });
            },
            cancellationToken);

    /// <exception cref="FaultException"><see cref="FaultReason.NotFound"/>.</exception>
    public ValueTask<PeerRow> SetOfferAsync(string name, bool offer, CancellationToken cancellationToken) =>
        database.WriteAsync(connection => Save(connection, Require(connection, name) with { Offer = offer }), cancellationToken);

    /// <summary>Sets what the peer may read, in place of what it might.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.NotFound"/>; <see cref="FaultReason.InvalidArgument"/>: too many.</exception>
    public ValueTask<PeerRow> AllowAsync(string name, bool all, IReadOnlyCollection<Id16> machines, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(machines);
        if (machines.Count > MachinesMax)
        {
            throw new FaultException(FaultReason.InvalidArgument, $"A peer is allowed at most {MachinesMax} machines by name: allow it all.");
        }
        return database.WriteAsync(
            connection =>
            {
                var row = Require(connection, name);
                using (var old = connection.Prepare("DELETE FROM peer_allowed WHERE peer = ?1"))
                {
                    old.Bind(1, name).Execute();
                }
                foreach (var vmId in machines)
                {
                    using var statement = connection.Prepare("INSERT OR IGNORE INTO peer_allowed (peer, vm_id) VALUES (?1, ?2)");
                    statement.Bind(1, name).Bind(2, vmId).Execute();
                }
                return Save(connection, row with { AllowAll = all, AllowedRevision = row.AllowedRevision + 1 });
            },
            cancellationToken);
    }

    /// <summary>The machines that it may read when not all.</summary>
    public ValueTask<HashSet<Id16>> ListAllowedAsync(string name, CancellationToken cancellationToken) =>
        database.ReadAsync(
            connection =>
            {
                var ids = new HashSet<Id16>();
                using var statement = connection.Prepare("SELECT vm_id FROM peer_allowed WHERE peer = ?1");
                statement.Bind(1, name);
                while (statement.Step())
                {
                    ids.Add(statement.GetId16(0));
                }
                return ids;
            },
            cancellationToken);

    /// <summary>Notes a hello.</summary>
    public ValueTask SetSeenAsync(string name, Id16 repositoryId, string version, long nowMs, CancellationToken cancellationToken) =>
        database.WriteAsync(
            connection =>
            {
                using var statement = connection.Prepare("UPDATE peer SET repository_id = ?2, version = ?3, last_seen_ms = ?4 WHERE name = ?1");
                statement.Bind(1, name).Bind(2, repositoryId).Bind(3, version).Bind(4, nowMs).Execute();
            },
            cancellationToken);

    /// <summary>Revokes the key of its certificate; durable when it returns.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.NotFound"/>.</exception>
    public ValueTask<PeerRow> RevokeAsync(string name, long nowMs, CancellationToken cancellationToken) =>
        database.WriteAsync(
            connection =>
            {
                var row = Require(connection, name);
                if (!row.TlsKeyId.IsEmpty)
                {
                    Revoke(connection, row.TlsKeyId, name, nowMs);
                }
                return Save(connection, row with { RevokedMs = row.RevokedMs ?? nowMs });
            },
            cancellationToken);

    /// <summary>Revokes it and forgets it, its rule, and what it was known to hold.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.NotFound"/>.</exception>
    public ValueTask<PeerRow> RemoveAsync(string name, long nowMs, CancellationToken cancellationToken) =>
        database.WriteAsync(
            connection =>
            {
                var row = Require(connection, name);
                if (!row.TlsKeyId.IsEmpty)
                {
                    Revoke(connection, row.TlsKeyId, name, nowMs);
                }
                foreach (var (table, column) in ((string, string)[])[("peer", "name"), ("peer_allowed", "peer"), ("replication_rule", "peer"), ("point_elsewhere", "peer"), ("machine_elsewhere", "peer"), ("point_receipt", "peer"), ("receipt_peer", "peer")])
                {
                    using var statement = connection.Prepare($"DELETE FROM {table} WHERE {column} = ?1");
                    statement.Bind(1, name).Execute();
                }
                return row;
            },
            cancellationToken);

    private static FaultException Unknown(string name) => new(FaultReason.NotFound, $"There is no peer called '{name}'.");

    private static PeerRow Require(ISqlConnection connection, string name) => Find(connection, name) ?? throw Unknown(name);

    private static PeerRow Ensure(ISqlConnection connection, string name, long nowMs)
    {
        if (Find(connection, name) is { } row)
        {
            return row;
        }
        using (var count = connection.Prepare("SELECT count(*) FROM peer"))
        {
            count.Step();
            if (count.GetInt64(0) >= CountMax)
            {
                throw new FaultException(FaultReason.FailedPrecondition, $"There are {CountMax} peers already: remove some first.");
            }
        }
        return Save(connection, new PeerRow { Name = name, CreatedMs = nowMs });
    }

    private static PeerRow? Find(ISqlConnection connection, string name)
    {
        using var statement = connection.Prepare($"SELECT {Columns} FROM peer WHERE name = ?1");
        return statement.Bind(1, name).Step() ? Read(statement) : null;
    }

    private static void Revoke(ISqlConnection connection, Id16 id, string peer, long nowMs)
    {
        using var statement = connection.Prepare("INSERT INTO revoked (id, agent, revoked_ms) VALUES (?1, ?2, ?3) ON CONFLICT (id) DO NOTHING");
        statement.Bind(1, id).Bind(2, peer).Bind(3, nowMs).Execute();
    }

    private static PeerRow Save(ISqlConnection connection, PeerRow row)
    {
        using var statement = connection.Prepare($"INSERT OR REPLACE INTO peer ({Columns}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)");
        statement.Bind(1, row.Name).Bind(2, row.RepositoryId).Bind(3, row.CreatedMs).Bind(4, row.TlsKeyId).Bind(5, row.Serial)
            .Bind(6, row.CertificateExpiresMs).Bind(8, row.Controller).Bind(9, row.Offer ? 1 : 0).Bind(10, row.AllowAll ? 1 : 0)
            .Bind(11, row.AllowedRevision).Bind(12, row.Version).Bind(13, row.LastSeenMs);
        statement.BindTime(7, row.RevokedMs).Execute();
        return row;
    }

    private static PeerRow Read(IStatement statement) => new()
    {
        Name = statement.GetString(0)!,
        RepositoryId = statement.GetId16(1),
        CreatedMs = statement.GetInt64(2),
        TlsKeyId = statement.GetId16(3),
        Serial = statement.GetId16(4),
        CertificateExpiresMs = statement.GetInt64(5),
        RevokedMs = statement.GetTime(6),
        Controller = statement.GetString(7)!,
        Offer = statement.GetInt64(8) != 0,
        AllowAll = statement.GetInt64(9) != 0,
        AllowedRevision = statement.GetInt64(10),
        Version = statement.GetString(11)!,
        LastSeenMs = statement.GetInt64(12),
    };
}
