using VirtBackup.Core;
using VirtBackup.Database;

namespace VirtBackup.Catalog.Replication;

/// <summary>What is pulled from a peer. The rule is opaque here. Times are Unix milliseconds.</summary>
/// <param name="ListingId">Names what <paramref name="Position"/> counts; empty: the peer was never asked.</param>
/// <param name="Position">Up to where the peer's points are known.</param>
/// <param name="ListedMs">When the peer was asked last; null: never.</param>
/// <param name="CompleteMs">When everything was here that was there; null: never yet.</param>
public sealed record ReplicationRuleRow(string Peer, byte[] Rule, long ChangedMs, string ListingId = "", long Position = 0, long? ListedMs = null, long? CompleteMs = null);

/// <summary>A recovery point that a peer has and this site has not, as the peer described it.</summary>
public sealed record ElsewhereRow
{
    public required Id16 PointId { get; init; }

    public required Id16 VmId { get; init; }

    public required long CreatedMs { get; init; }

    public Id16 Origin { get; init; }

    public long Sequence { get; init; }

    public string Agent { get; init; } = "";

    public string HypervisorKind { get; init; } = "";

    public long LogicalBytes { get; init; }

    public int Consistency { get; init; }

    public string ConsistencyDetail { get; init; } = "";
}

/// <summary>How far behind a peer the copies of a machine are.</summary>
/// <param name="NewestThereMs">Of the newest point that the peer listed; 0: it listed none.</param>
/// <param name="NewestHereMs">Of the newest point here; null: there is none.</param>
/// <param name="NewestMissingMs">Of the newest point that is there and not here; null: none is missing.</param>
public sealed record ReplicaLag(Id16 VmId, string Name, long NewestThereMs, long? NewestHereMs, long? NewestMissingMs, long Missing);

/// <summary>Rules of replication, what peers are known to hold, and what is not pulled again.</summary>
public sealed class ReplicationRecords(IDatabase database)
{
    private const string RuleColumns = "peer, rule, changed_ms, listing_id, position, listed_ms, complete_ms";
    private const string ElsewhereColumns =
        "point_id, vm_id, created_ms, origin, sequence, agent, hypervisor_kind, logical_bytes, consistency, consistency_detail";

    public ValueTask<ReplicationRuleRow?> FindRuleAsync(string peer, CancellationToken cancellationToken) =>
        database.ReadAsync(
            connection =>
            {
                using var statement = connection.Prepare($"SELECT {RuleColumns} FROM replication_rule WHERE peer = ?1");
                return statement.Bind(1, peer).Step() ? ReadRule(statement) : null;
            },
            cancellationToken);

    /// <summary>All rules by peer.</summary>
    public ValueTask<List<ReplicationRuleRow>> ListRulesAsync(CancellationToken cancellationToken) =>
        database.ReadAsync(
            static connection =>
            {
                var rows = new List<ReplicationRuleRow>();
                using var statement = connection.Prepare($"SELECT {RuleColumns} FROM replication_rule ORDER BY peer");
                while (statement.Step())
                {
                    rows.Add(ReadRule(statement));
                }
                return rows;
            },
            cancellationToken);

    /// <summary>Sets the peer's rule. What is known of the peer is asked for anew: the rule may select other machines.</summary>
    public ValueTask SetRuleAsync(string peer, byte[] rule, long nowMs, CancellationToken cancellationToken) =>
        database.WriteAsync(
            connection =>
            {
                Forget(connection, "point_elsewhere", peer);
                Forget(connection, "machine_elsewhere", peer);
                using var statement = connection.Prepare(
                    """
                    INSERT INTO replication_rule (peer, rule, changed_ms, listing_id, position) VALUES (?1, ?2, ?3, '', 0)
                    ON CONFLICT (peer) DO UPDATE SET rule = ?2, changed_ms = ?3, listing_id = '', position = 0
                    """);
                statement.Bind(1, peer).Bind(2, rule).Bind(3, nowMs).Execute();
            },
            cancellationToken);

    /// <summary>False: there was none.</summary>
    public ValueTask<bool> RemoveRuleAsync(string peer, CancellationToken cancellationToken) =>
        database.WriteAsync(
            connection =>
            {
                Forget(connection, "point_elsewhere", peer);
                Forget(connection, "machine_elsewhere", peer);
                return Forget(connection, "replication_rule", peer) == 1;
            },
            cancellationToken);

    public ValueTask SetCompleteAsync(string peer, long nowMs, CancellationToken cancellationToken) =>
        database.WriteAsync(
            connection =>
            {
                using var statement = connection.Prepare("UPDATE replication_rule SET complete_ms = ?2 WHERE peer = ?1");
                statement.Bind(1, peer).Bind(2, nowMs).Execute();
            },
            cancellationToken);

    /// <summary>As <see cref="SetCompleteAsync"/>, if the peer is known to have nothing that is not here.</summary>
    public ValueTask SetCompleteIfNothingMissesAsync(string peer, long nowMs, CancellationToken cancellationToken) =>
        database.WriteAsync(
            connection =>
            {
                using var statement = connection.Prepare(
                    "UPDATE replication_rule SET complete_ms = ?2 WHERE peer = ?1 AND NOT EXISTS (SELECT 1 FROM point_elsewhere WHERE peer = ?1)");
                statement.Bind(1, peer).Bind(2, nowMs).Execute();
            },
            cancellationToken);

    /// <summary>Takes what a peer listed: the points are those that are not here, the names those of all that it listed.</summary>
    /// <param name="isWhole">The peer listed all that it has: what is not in the list is not there any more.</param>
    public ValueTask NoteListingAsync(
        string peer, bool isWhole, IReadOnlyCollection<ElsewhereRow> missing, IReadOnlyCollection<(Id16 VmId, string Name, long NewestMs)> machines,
        string listingId, long position, long nowMs, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(missing);
        ArgumentNullException.ThrowIfNull(machines);
        return database.WriteAsync(
            connection =>
            {
                if (isWhole)
                {
                    Forget(connection, "point_elsewhere", peer);
                    using var none = connection.Prepare("UPDATE machine_elsewhere SET newest_ms = 0 WHERE peer = ?1");
                    none.Bind(1, peer).Execute();
                }
                foreach (var row in missing)
                {
                    Insert(connection, peer, row);
                }
                foreach (var (vmId, name, newestMs) in machines)
                {
                    using var statement = connection.Prepare(
                        """
                        INSERT INTO machine_elsewhere (peer, vm_id, name, newest_ms) VALUES (?1, ?2, ?3, ?4)
                        ON CONFLICT (peer, vm_id) DO UPDATE SET name = ?3, newest_ms = max(newest_ms, ?4)
                        """);
                    statement.Bind(1, peer).Bind(2, vmId).Bind(3, name).Bind(4, newestMs).Execute();
                }
                using var rule = connection.Prepare("UPDATE replication_rule SET listing_id = ?2, position = ?3, listed_ms = ?4 WHERE peer = ?1");
                rule.Bind(1, peer).Bind(2, listingId).Bind(3, position).Bind(4, nowMs).Execute();
            },
            cancellationToken);
    }

    /// <summary>The points that a peer has and this site has not, oldest first.</summary>
    public ValueTask<List<ElsewhereRow>> ListElsewhereAsync(string peer, CancellationToken cancellationToken) =>
        database.ReadAsync(
            connection =>
            {
                var rows = new List<ElsewhereRow>();
                using var statement = connection.Prepare($"SELECT {ElsewhereColumns} FROM point_elsewhere WHERE peer = ?1 ORDER BY created_ms, sequence, point_id");
                statement.Bind(1, peer);
                while (statement.Step())
                {
                    rows.Add(ReadElsewhere(statement));
                }
                return rows;
            },
            cancellationToken);

    /// <summary>What any peer said of the point; null: nothing is known any more.</summary>
    public ValueTask<(string Peer, ElsewhereRow Row)?> FindElsewhereAsync(Id16 pointId, CancellationToken cancellationToken) =>
        database.ReadAsync<(string, ElsewhereRow)?>(
            connection =>
            {
                using var statement = connection.Prepare($"SELECT {ElsewhereColumns}, peer FROM point_elsewhere WHERE point_id = ?1 LIMIT 1");
                return statement.Bind(1, pointId).Step() ? (statement.GetString(10)!, ReadElsewhere(statement)) : null;
            },
            cancellationToken);

    /// <summary>The point is here now, or not there any more.</summary>
    public ValueTask RemoveElsewhereAsync(Id16 pointId, CancellationToken cancellationToken) =>
        database.WriteAsync(
            connection =>
            {
                using var statement = connection.Prepare("DELETE FROM point_elsewhere WHERE point_id = ?1");
                statement.Bind(1, pointId).Execute();
            },
            cancellationToken);

    /// <summary>The name by which a peer told the machine; null: none did.</summary>
    public ValueTask<string?> FindMachineNameAsync(Id16 vmId, CancellationToken cancellationToken) =>
        database.ReadAsync(
            connection =>
            {
                using var statement = connection.Prepare("SELECT name FROM machine_elsewhere WHERE vm_id = ?1 ORDER BY newest_ms DESC LIMIT 1");
                return statement.Bind(1, vmId).Step() ? statement.GetString(0) : null;
            },
            cancellationToken);

    /// <summary>Machines that the peer calls so: their ids, at most <paramref name="count"/>.</summary>
    public ValueTask<List<Id16>> FindMachinesAsync(string peer, string name, int count, CancellationToken cancellationToken) =>
        database.ReadAsync(
            connection =>
            {
                var ids = new List<Id16>();
                using var statement = connection.Prepare("SELECT vm_id FROM machine_elsewhere WHERE peer = ?1 AND name = ?2 LIMIT ?3");
                statement.Bind(1, peer).Bind(2, name).Bind(3, count);
                while (statement.Step())
                {
                    ids.Add(statement.GetId16(0));
                }
                return ids;
            },
            cancellationToken);

    /// <summary>How far behind the peer each of its machines is here, by name.</summary>
    public ValueTask<List<ReplicaLag>> ListLagsAsync(string peer, CancellationToken cancellationToken) =>
        database.ReadAsync(
            connection =>
            {
                var lags = new List<ReplicaLag>();
                using var statement = connection.Prepare(
                    """
                    SELECT m.vm_id, m.name, m.newest_ms,
                        (SELECT max(p.created_ms) FROM point p WHERE p.vm_id = m.vm_id AND p.forgotten = 0),
                        (SELECT max(e.created_ms) FROM point_elsewhere e WHERE e.peer = m.peer AND e.vm_id = m.vm_id),
                        (SELECT count(*) FROM point_elsewhere e WHERE e.peer = m.peer AND e.vm_id = m.vm_id)
                    FROM machine_elsewhere m WHERE m.peer = ?1 ORDER BY m.name, m.vm_id
                    """);
                statement.Bind(1, peer);
                while (statement.Step())
                {
                    lags.Add(new ReplicaLag(
                        statement.GetId16(0), statement.GetString(1)!, statement.GetInt64(2), statement.GetTime(3), statement.GetTime(4), statement.GetInt64(5)));
                }
                return lags;
            },
            cancellationToken);

    /// <summary>Notes that a replica was forgotten here: it is not pulled again.</summary>
    public ValueTask NoteExpiredAsync(Id16 pointId, long nowMs, CancellationToken cancellationToken) =>
        database.WriteAsync(
            connection =>
            {
                using var statement = connection.Prepare("INSERT INTO expired_replica (point_id, expired_ms) VALUES (?1, ?2) ON CONFLICT (point_id) DO NOTHING");
                statement.Bind(1, pointId).Bind(2, nowMs).Execute();
            },
            cancellationToken);

    /// <summary>It may be pulled again.</summary>
    public ValueTask NoteWantedAsync(Id16 pointId, CancellationToken cancellationToken) =>
        database.WriteAsync(
            connection =>
            {
                using var statement = connection.Prepare("DELETE FROM expired_replica WHERE point_id = ?1");
                statement.Bind(1, pointId).Execute();
            },
            cancellationToken);

    /// <summary>Whether the point was forgotten here.</summary>
    public ValueTask<bool> IsExpiredAsync(Id16 pointId, CancellationToken cancellationToken) =>
        database.ReadAsync(
            connection =>
            {
                using var statement = connection.Prepare("SELECT 1 FROM expired_replica WHERE point_id = ?1");
                return statement.Bind(1, pointId).Step();
            },
            cancellationToken);

    private static int Forget(ISqlConnection connection, string table, string peer)
    {
        using var statement = connection.Prepare($"DELETE FROM {table} WHERE peer = ?1");
        return statement.Bind(1, peer).Execute();
    }

    private static void Insert(ISqlConnection connection, string peer, ElsewhereRow row)
    {
        using var statement = connection.Prepare(
            $"INSERT OR REPLACE INTO point_elsewhere (peer, {ElsewhereColumns}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)");
        statement.Bind(1, peer).Bind(2, row.PointId).Bind(3, row.VmId).Bind(4, row.CreatedMs).Bind(5, row.Origin).Bind(6, row.Sequence).Bind(7, row.Agent)
            .Bind(8, row.HypervisorKind).Bind(9, row.LogicalBytes).Bind(10, row.Consistency).Bind(11, row.ConsistencyDetail).Execute();
    }

    private static ElsewhereRow ReadElsewhere(IStatement statement) => new()
    {
        PointId = statement.GetId16(0),
        VmId = statement.GetId16(1),
        CreatedMs = statement.GetInt64(2),
        Origin = statement.GetId16(3),
        Sequence = statement.GetInt64(4),
        Agent = statement.GetString(5)!,
        HypervisorKind = statement.GetString(6)!,
        LogicalBytes = statement.GetInt64(7),
        Consistency = (int)statement.GetInt64(8),
        ConsistencyDetail = statement.GetString(9)!,
    };

    private static ReplicationRuleRow ReadRule(IStatement statement) => new(
        statement.GetString(0)!, statement.GetBytes(1), statement.GetInt64(2), statement.GetString(3)!, statement.GetInt64(4), statement.GetTime(5), statement.GetTime(6));
}
