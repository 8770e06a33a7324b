using VirtBackup.Core;
using VirtBackup.Database;

namespace VirtBackup.Catalog.Copies;

/// <summary>A second place of the repository. Times are Unix milliseconds.</summary>
/// <param name="Location">As a repository's location is written.</param>
/// <param name="BytesPerSecondMax">That copying reads of the repository; 0: no limit.</param>
/// <param name="CompleteMs">When everything was there last that should be; null: never yet.</param>
public sealed record CopyStoreRow(string Name, string Location, bool OffSite, long BytesPerSecondMax, long CreatedMs, long? CompleteMs = null);

/// <summary>A recovery point in a copy store, as it was when the store was looked at last. Times are Unix milliseconds.</summary>
/// <param name="Whole">Nothing of it is missing or damaged there.</param>
/// <param name="LockedUntilMs">There; 0: never.</param>
/// <param name="ReleasedMs">When the repository let the point go; null: it did not, as far as is known.</param>
public sealed record CopyPointRow(string Store, Id16 PointId, Id16 VmId, long CreatedMs, bool Whole, long LockedUntilMs, long? ReleasedMs = null);

/// <summary>What must be where. The policy is opaque here.</summary>
/// <param name="ChangedMs">Unix milliseconds.</param>
public sealed record CopyPolicyRow(string Name, byte[] Policy, long ChangedMs);

/// <summary>Copy stores, what is in them, and policies.</summary>
public sealed class CopyRecords(IDatabase database)
{
    public const int StoresMax = 16;

    public const int PoliciesMax = 100;

    private const string StoreColumns = "name, location, off_site, rate, created_ms, complete_ms";
    private const string PointColumns = "store, point_id, vm_id, created_ms, whole, locked_until_ms, released_ms";

    /// <exception cref="FaultException">
    /// <see cref="FaultReason.AlreadyExists"/>: the name is taken; <see cref="FaultReason.FailedPrecondition"/>: there are <see cref="StoresMax"/>.
    /// </exception>
    public ValueTask AddStoreAsync(CopyStoreRow row, CancellationToken cancellationToken) =>
        database.WriteAsync(
            connection =>
            {
                var rows = ListStores(connection);
                if (rows.Exists(known => known.Name == row.Name))
                {
                    throw new FaultException(FaultReason.AlreadyExists, $"There is a copy store called '{row.Name}' already.");
                }
                if (rows.Count >= StoresMax)
                {
                    throw new FaultException(FaultReason.FailedPrecondition, $"There are {StoresMax} copy stores already: remove one first.");
                }
                using var statement = connection.Prepare($"INSERT INTO copy_store ({StoreColumns}) VALUES (?1, ?2, ?3, ?4, ?5, ?6)");
                statement.Bind(1, row.Name).Bind(2, row.Location).Bind(3, row.OffSite ? 1 : 0).Bind(4, row.BytesPerSecondMax).Bind(5, row.CreatedMs)
                    .BindTime(6, row.CompleteMs).Execute();
            },
            cancellationToken);

    /// <summary>All of them by name.</summary>
    public ValueTask<List<CopyStoreRow>> ListStoresAsync(CancellationToken cancellationToken) => database.ReadAsync(ListStores, cancellationToken);

    /// <exception cref="FaultException"><see cref="FaultReason.NotFound"/>.</exception>
    public async ValueTask<CopyStoreRow> RequireStoreAsync(string name, CancellationToken cancellationToken) =>
        (await ListStoresAsync(cancellationToken)).Find(row => row.Name == name) ?? throw new FaultException(FaultReason.NotFound, $"There is no copy store called '{name}'.");

    /// <summary>Forgets the store and what is known to be in it.</summary>
    public ValueTask RemoveStoreAsync(string name, CancellationToken cancellationToken) =>
        database.WriteAsync(
            connection =>
            {
                foreach (var (table, column) in ((string, string)[])[("copy_store", "name"), ("copy_point", "store")])
                {
                    using var statement = connection.Prepare($"DELETE FROM {table} WHERE {column} = ?1");
                    statement.Bind(1, name).Execute();
                }
            },
            cancellationToken);

    public ValueTask SetCompleteAsync(string name, long nowMs, CancellationToken cancellationToken) =>
        database.WriteAsync(
            connection =>
            {
                using var statement = connection.Prepare("UPDATE copy_store SET complete_ms = ?2 WHERE name = ?1");
                statement.Bind(1, name).Bind(2, nowMs).Execute();
            },
            cancellationToken);

    /// <summary>What is in a store.</summary>
    public ValueTask<Dictionary<Id16, CopyPointRow>> ListPointsAsync(string store, CancellationToken cancellationToken) =>
        database.ReadAsync(
            connection =>
            {
                using var statement = connection.Prepare($"SELECT {PointColumns} FROM copy_point WHERE store = ?1");
                return ReadPoints(statement.Bind(1, store)).ToDictionary(static row => row.PointId);
            },
            cancellationToken);

    /// <summary>What any store has of a machine.</summary>
    public ValueTask<List<CopyPointRow>> ListOfMachineAsync(Id16 vmId, CancellationToken cancellationToken) =>
        database.ReadAsync(
            connection =>
            {
                using var statement = connection.Prepare($"SELECT {PointColumns} FROM copy_point WHERE vm_id = ?1");
                return ReadPoints(statement.Bind(1, vmId));
            },
            cancellationToken);

    /// <summary>The repository's points that came from peers.</summary>
    public ValueTask<HashSet<Id16>> ListReplicasAsync(CancellationToken cancellationToken) =>
        database.ReadAsync(
            static connection =>
            {
                var ids = new HashSet<Id16>();
                using var statement = connection.Prepare("SELECT point_id FROM point WHERE peer <> ''");
                while (statement.Step())
                {
                    ids.Add(statement.GetId16(0));
                }
                return ids;
            },
            cancellationToken);

    /// <summary>Takes how points are in a store, and which are not there any more. Nothing is kept of a store that was removed.</summary>
    public ValueTask NotePointsAsync(string store, IReadOnlyCollection<CopyPointRow> points, IReadOnlyCollection<Id16> gone, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(points);
        ArgumentNullException.ThrowIfNull(gone);
        return points.Count + gone.Count == 0 ? ValueTask.CompletedTask : database.WriteAsync(
            connection =>
            {
                if (!ListStores(connection).Exists(row => row.Name == store))
                {
                    return;
                }
                using var put = connection.Prepare($"INSERT OR REPLACE INTO copy_point ({PointColumns}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)");
                foreach (var row in points)
                {
                    put.Bind(1, store).Bind(2, row.PointId).Bind(3, row.VmId).Bind(4, row.CreatedMs).Bind(5, row.Whole ? 1 : 0).Bind(6, row.LockedUntilMs)
                        .BindTime(7, row.ReleasedMs).Execute();
                }
                using var delete = connection.Prepare("DELETE FROM copy_point WHERE store = ?1 AND point_id = ?2");
                foreach (var point in gone)
                {
                    delete.Bind(1, store).Bind(2, point).Execute();
                }
            },
            cancellationToken);
    }

    /// <exception cref="FaultException"><see cref="FaultReason.FailedPrecondition"/>: there are <see cref="PoliciesMax"/>.</exception>
    public ValueTask SetPolicyAsync(CopyPolicyRow row, CancellationToken cancellationToken) =>
        database.WriteAsync(
            connection =>
            {
                var rows = ListPolicies(connection);
                if (rows.Count >= PoliciesMax && !rows.Exists(known => known.Name == row.Name))
                {
                    throw new FaultException(FaultReason.FailedPrecondition, $"There are {PoliciesMax} copy policies already: remove one first.");
                }
                using var statement = connection.Prepare("INSERT OR REPLACE INTO copy_policy (name, policy, changed_ms) VALUES (?1, ?2, ?3)");
                statement.Bind(1, row.Name).Bind(2, row.Policy).Bind(3, row.ChangedMs).Execute();
            },
            cancellationToken);

    /// <summary>All of them by name.</summary>
    public ValueTask<List<CopyPolicyRow>> ListPoliciesAsync(CancellationToken cancellationToken) => database.ReadAsync(ListPolicies, cancellationToken);

    /// <summary>False: there was none.</summary>
    public ValueTask<bool> RemovePolicyAsync(string name, CancellationToken cancellationToken) =>
        database.WriteAsync(
            connection =>
            {
                using var statement = connection.Prepare("DELETE FROM copy_policy WHERE name = ?1");
                return statement.Bind(1, name).Execute() == 1;
            },
            cancellationToken);

    private static List<CopyStoreRow> ListStores(ISqlConnection connection)
    {
        var rows = new List<CopyStoreRow>();
        using var statement = connection.Prepare($"SELECT {StoreColumns} FROM copy_store ORDER BY name");
        while (statement.Step())
        {
            rows.Add(new CopyStoreRow(
                statement.GetString(0)!, statement.GetString(1)!, statement.GetInt64(2) != 0, statement.GetInt64(3), statement.GetInt64(4), statement.GetTime(5)));
        }
        return rows;
    }

    private static List<CopyPolicyRow> ListPolicies(ISqlConnection connection)
    {
        var rows = new List<CopyPolicyRow>();
        using var statement = connection.Prepare("SELECT name, policy, changed_ms FROM copy_policy ORDER BY name");
        while (statement.Step())
        {
            rows.Add(new CopyPolicyRow(statement.GetString(0)!, statement.GetBytes(1), statement.GetInt64(2)));
        }
        return rows;
    }

    private static List<CopyPointRow> ReadPoints(IStatement statement)
    {
        var rows = new List<CopyPointRow>();
        while (statement.Step())
        {
            rows.Add(new CopyPointRow(
                statement.GetString(0)!, statement.GetId16(1), statement.GetId16(2), statement.GetInt64(3), statement.GetInt64(4) != 0, statement.GetInt64(5), statement.GetTime(6)));
        }
        return rows;
    }
}
