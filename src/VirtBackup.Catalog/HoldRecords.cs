using VirtBackup.Core;
using VirtBackup.Database;

namespace VirtBackup.Catalog;

/// <summary>A reason not to let a recovery point go, until somebody releases it.</summary>
/// <param name="PlacedBy">An operator's name, or the part of the system that placed it.</param>
/// <param name="BySystem">No operator placed it.</param>
/// <param name="PlacedMs">Unix milliseconds.</param>
public sealed record HoldRow(Id16 HoldId, Id16 PointId, string Reason, string PlacedBy, bool BySystem, long PlacedMs);

/// <summary>Holds on recovery points; a point may have several, and is held as long as it has one.</summary>
public sealed class HoldRecords(IDatabase database)
{
    /// <summary>Of one point.</summary>
    public const int CountMax = 100;

    private const string Columns = "hold_id, point_id, reason, placed_by, by_system, placed_ms";

    /// <exception cref="FaultException"><see cref="FaultReason.FailedPrecondition"/>: the point has <see cref="CountMax"/> holds.</exception>
    public ValueTask AddAsync(HoldRow hold, CancellationToken cancellationToken) =>
        database.WriteAsync(
            connection =>
            {
                if (List(connection, hold.PointId).Count >= CountMax)
                {
                    throw new FaultException(FaultReason.FailedPrecondition, $"The recovery point {hold.PointId} has {CountMax} holds already: release some first.");
                }
                Insert(connection, hold);
            },
            cancellationToken);

    /// <summary>Places all of them or none. The caller has seen that no point gets more than <see cref="CountMax"/>.</summary>
    public ValueTask AddAllAsync(IReadOnlyCollection<HoldRow> holds, CancellationToken cancellationToken) =>
        database.WriteAsync(
            connection =>
            {
                foreach (var hold in holds)
                {
                    Insert(connection, hold);
                }
            },
            cancellationToken);

    /// <summary>Releases all holds of that placer on a machine's points. Returns how many there were.</summary>
    public ValueTask<int> RemoveAllAsync(Id16 vmId, string placedBy, CancellationToken cancellationToken) =>
        database.WriteAsync(
            connection =>
            {
                using var statement = connection.Prepare(
                    "DELETE FROM hold WHERE placed_by = ?2 AND by_system = 1 AND point_id IN (SELECT point_id FROM point WHERE vm_id = ?1)");
                return statement.Bind(1, vmId).Bind(2, placedBy).Execute();
            },
            cancellationToken);

    /// <summary>Releases a hold; false: the point has no such hold.</summary>
    public ValueTask<bool> RemoveAsync(Id16 pointId, Id16 holdId, CancellationToken cancellationToken) =>
        database.WriteAsync(
            connection =>
            {
                using var statement = connection.Prepare("DELETE FROM hold WHERE hold_id = ?1 AND point_id = ?2");
                return statement.Bind(1, holdId).Bind(2, pointId).Execute() == 1;
            },
            cancellationToken);

    /// <summary>The point's holds, oldest first.</summary>
    public ValueTask<List<HoldRow>> ListAsync(Id16 pointId, CancellationToken cancellationToken) =>
        database.ReadAsync(connection => List(connection, pointId), cancellationToken);

    /// <summary>The holds of all points of a machine, oldest first.</summary>
    public ValueTask<ILookup<Id16, HoldRow>> ListOfMachineAsync(Id16 vmId, CancellationToken cancellationToken) =>
        database.ReadAsync(
            connection =>
            {
                using var statement = connection.Prepare(
                    "SELECT h.hold_id, h.point_id, h.reason, h.placed_by, h.by_system, h.placed_ms FROM hold h JOIN point p ON p.point_id = h.point_id WHERE p.vm_id = ?1 ORDER BY h.placed_ms, h.hold_id");
                return ReadAll(statement.Bind(1, vmId)).ToLookup(static hold => hold.PointId);
            },
            cancellationToken);

    private static void Insert(ISqlConnection connection, HoldRow hold)
    {
        using var statement = connection.Prepare($"INSERT INTO hold ({Columns}) VALUES (?1, ?2, ?3, ?4, ?5, ?6)");
        statement.Bind(1, hold.HoldId).Bind(2, hold.PointId).Bind(3, hold.Reason).Bind(4, hold.PlacedBy).Bind(5, hold.BySystem ? 1 : 0).Bind(6, hold.PlacedMs).Execute();
    }

    private static List<HoldRow> List(ISqlConnection connection, Id16 pointId)
    {
        using var statement = connection.Prepare($"SELECT {Columns} FROM hold WHERE point_id = ?1 ORDER BY placed_ms, hold_id");
        return ReadAll(statement.Bind(1, pointId));
    }

    private static List<HoldRow> ReadAll(IStatement statement)
    {
        var rows = new List<HoldRow>();
        while (statement.Step())
        {
            rows.Add(new HoldRow(
                statement.GetId16(0), statement.GetId16(1), statement.GetString(2)!, statement.GetString(3)!, statement.GetInt64(4) != 0, statement.GetInt64(5)));
        }
        return rows;
    }
}
