using VirtBackup.Core;
using VirtBackup.Database;

namespace VirtBackup.Catalog.Copies;

/// <summary>A recovery point of this site that a peer said it has.</summary>
/// <param name="LockedUntilMs">There, Unix milliseconds; 0: not locked.</param>
public sealed record ReceiptRow(string Peer, Id16 PointId, long LockedUntilMs);

/// <summary>
/// What peers said they have of this site's recovery points, all of it anew every so often: a telling. Only of points that are
/// known here, so that no peer fills the catalog.
/// </summary>
public sealed class ReceiptRecords(IDatabase database)
{
    /// <summary>Takes a part of a telling.</summary>
    /// <param name="peer">Who tells.</param>
    /// <param name="isFirst">A telling of everything begins.</param>
    /// <param name="isLast">It ends: what it did not name is not there any more.</param>
    /// <param name="storeKind">Where the peer keeps them; empty: it did not say.</param>
    public ValueTask NoteAsync(
        string peer, bool isFirst, bool isLast, string storeKind, IReadOnlyCollection<(Id16 PointId, long LockedUntilMs)> points, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(points);
        return database.WriteAsync(
            connection =>
            {
                using (var kind = connection.Prepare("INSERT OR REPLACE INTO receipt_peer (peer, store_kind) SELECT name, ?2 FROM peer WHERE name = ?1"))
                {
                    if (kind.Bind(1, peer).Bind(2, storeKind).Execute() == 0)
                    {
                        return;
                    }
                }
                if (isFirst)
                {
                    using var old = connection.Prepare("UPDATE point_receipt SET telling = 0 WHERE peer = ?1");
                    old.Bind(1, peer).Execute();
                }
                using (var statement = connection.Prepare(
                    """
                    INSERT OR REPLACE INTO point_receipt (peer, point_id, locked_until_ms, telling)
                    SELECT ?1, ?2, ?3, 1 WHERE EXISTS (SELECT 1 FROM point WHERE point_id = ?2)
                    """))
                {
                    foreach (var (pointId, lockedUntilMs) in points)
                    {
                        statement.Bind(1, peer).Bind(2, pointId).Bind(3, lockedUntilMs).Execute();
                    }
                }
                if (isLast)
                {
                    using var gone = connection.Prepare("DELETE FROM point_receipt WHERE peer = ?1 AND telling = 0");
                    gone.Bind(1, peer).Execute();
                }
            },
            cancellationToken);
    }

    /// <summary>What peers have of a machine.</summary>
    public ValueTask<List<ReceiptRow>> ListOfMachineAsync(Id16 vmId, CancellationToken cancellationToken) =>
        database.ReadAsync(
            connection =>
            {
                var rows = new List<ReceiptRow>();
                using var statement = connection.Prepare(
                    "SELECT r.peer, r.point_id, r.locked_until_ms FROM point p JOIN point_receipt r ON r.point_id = p.point_id WHERE p.vm_id = ?1");
                statement.Bind(1, vmId);
                while (statement.Step())
                {
                    rows.Add(new ReceiptRow(statement.GetString(0)!, statement.GetId16(1), statement.GetInt64(2)));
                }
                return rows;
            },
            cancellationToken);

    /// <summary>The kind of storage in which each peer that told keeps its points.</summary>
    public ValueTask<Dictionary<string, string>> ListKindsAsync(CancellationToken cancellationToken) =>
        database.ReadAsync(
            static connection =>
            {
                var kinds = new Dictionary<string, string>(StringComparer.Ordinal);
                using var statement = connection.Prepare("SELECT peer, store_kind FROM receipt_peer");
                while (statement.Step())
                {
                    kinds.Add(statement.GetString(0)!, statement.GetString(1)!);
                }
                return kinds;
            },
            cancellationToken);
}
