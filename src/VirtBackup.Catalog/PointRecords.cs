using VirtBackup.Core;
using VirtBackup.Database;

namespace VirtBackup.Catalog;

/// <summary>A recovery point as lists show it. Sizes in bytes, times in Unix milliseconds.</summary>
public sealed record PointRow
{
    public required Id16 PointId { get; init; }

    public required Id16 VmId { get; init; }

    public required string VmName { get; init; }

    public string Agent { get; init; } = "";

    public required long CreatedMs { get; init; }

    public required long Sequence { get; init; }

    /// <summary>0 unknown, 1 crash, 2 file system, 3 application.</summary>
    public int Consistency { get; init; }

    public string ConsistencyDetail { get; init; } = "";

    /// <summary>For how long the guest's file systems stood still for the cut; 0: they did not, or it is not known.</summary>
    public long FrozenMs { get; init; }

    /// <summary>The running state in the point; null: none.</summary>
    public PointStateRow? State { get; init; }

    public long LogicalBytes { get; init; }

    public long ReadBytes { get; init; }

    public long StoredBytes { get; init; }

    /// <summary>Empty: it has none.</summary>
    public Id16 BasePointId { get; init; }

    public string HypervisorKind { get; init; } = "";

    public bool Forgotten { get; init; }

    /// <summary>The repository that it was made in; empty: this one.</summary>
    public Id16 Origin { get; init; }

    /// <summary>The peer that it came from; empty: it was made here, or that is not known any more.</summary>
    public string Peer { get; init; } = "";

    /// <summary>There are no keys for it here.</summary>
    public bool Sealed { get; init; }

    public IReadOnlyList<PointStreamRow> Streams { get; init; } = [];
}

/// <param name="MemoryBytes">More than 0.</param>
/// <param name="StoredBytes">What the point's run wrote of it.</param>
/// <param name="PausedMs">For how long the guest stood still for it.</param>
public sealed record PointStateRow(long MemoryBytes, long StoredBytes, long PausedMs);

public sealed record PointStreamRow(string StreamId, string Name, string Kind, long LengthBytes, string Format, long ReadBytes, string ReadReason);

/// <summary>Recovery points. The repository has the last word; see <see cref="RecoveryPointProjection"/>.</summary>
public sealed class PointRecords(IDatabase database)
{
    private const string Columns =
        "point_id, vm_id, vm_name, agent, created_ms, sequence, consistency, consistency_detail, logical_bytes, read_bytes, stored_bytes, base_point_id, hypervisor_kind, forgotten, frozen_ms, memory_bytes, state_stored_bytes, paused_ms, origin, peer, sealed";

    /// <summary>Stores the point, replacing what was there.</summary>
    public ValueTask SaveAsync(PointRow point, CancellationToken cancellationToken) =>
        database.WriteAsync(
            connection =>
            {
                Delete(connection, point.PointId);
                Insert(connection, point);
            },
            cancellationToken);

    /// <summary>Deletes the point and what verifications found of it. Its holds stay: should it come back, they count.</summary>
    public ValueTask DeleteAsync(Id16 pointId, CancellationToken cancellationToken) =>
        database.WriteAsync(
            connection =>
            {
                Delete(connection, pointId);
                using var check = connection.Prepare("DELETE FROM point_check WHERE point_id = ?1");
                check.Bind(1, pointId).Execute();
            },
            cancellationToken);

    public ValueTask SetForgottenAsync(Id16 pointId, bool forgotten, CancellationToken cancellationToken) =>
        database.WriteAsync(
            connection =>
            {
                using var statement = connection.Prepare("UPDATE point SET forgotten = ?2 WHERE point_id = ?1");
                statement.Bind(1, pointId).Bind(2, forgotten ? 1 : 0).Execute();
            },
            cancellationToken);

    /// <summary>The point with its streams.</summary>
    public ValueTask<PointRow?> FindAsync(Id16 pointId, CancellationToken cancellationToken) =>
        database.ReadAsync(
            connection =>
            {
                using var statement = connection.Prepare($"SELECT {Columns} FROM point WHERE point_id = ?1");
                return statement.Bind(1, pointId).Step() ? WithStreams(connection, Read(statement)) : null;
            },
            cancellationToken);

    /// <summary>Points whose id lies between the two, without streams; at most <paramref name="count"/>.</summary>
    public ValueTask<List<PointRow>> FindByRangeAsync(Id16 first, Id16 last, int count, CancellationToken cancellationToken) =>
        database.ReadAsync(
            connection =>
            {
                using var statement = connection.Prepare($"SELECT {Columns} FROM point WHERE point_id >= ?1 AND point_id <= ?2 ORDER BY point_id LIMIT ?3");
                return ReadAll(statement.Bind(1, first).Bind(2, last).Bind(3, count));
            },
            cancellationToken);

    /// <summary>The machine's newest point that is not forgotten; of this sequence if one is given.</summary>
    public ValueTask<PointRow?> FindNewestAsync(Id16 vmId, long? sequence, CancellationToken cancellationToken) =>
        database.ReadAsync(
            connection =>
            {
                var filter = sequence is null ? "forgotten = 0" : "sequence = ?2";
                using var statement = connection.Prepare($"SELECT {Columns} FROM point WHERE vm_id = ?1 AND {filter} ORDER BY created_ms DESC, point_id DESC LIMIT 1");
                statement.Bind(1, vmId);
                if (sequence is { } number)
                {
                    statement.Bind(2, number);
                }
                return statement.Step() ? Read(statement) : null;
            },
            cancellationToken);

    /// <summary>Machines that some point calls <paramref name="name"/>: their ids, at most <paramref name="count"/>.</summary>
    public ValueTask<List<Id16>> FindMachinesAsync(string name, int count, CancellationToken cancellationToken) =>
        database.ReadAsync(
            connection =>
            {
                var ids = new List<Id16>();
                using var statement = connection.Prepare("SELECT DISTINCT vm_id FROM point WHERE vm_name = ?1 LIMIT ?2");
                statement.Bind(1, name).Bind(2, count);
                while (statement.Step())
                {
                    ids.Add(statement.GetId16(0));
                }
                return ids;
            },
            cancellationToken);

    /// <summary>Points, newest first, without streams, behind the point given (null: from the newest).</summary>
    public ValueTask<List<PointRow>> ListAsync(
        Id16? vmId, bool includeForgotten, (long CreatedMs, Id16 PointId)? after, int count, CancellationToken cancellationToken) =>
        database.ReadAsync(
            connection =>
            {
                var filter = (vmId is null ? "" : " AND vm_id = ?4") + (includeForgotten ? "" : " AND forgotten = 0");
                using var statement = connection.Prepare(
                    $"SELECT {Columns} FROM point WHERE (created_ms < ?1 OR (created_ms = ?1 AND point_id < ?2)){filter} ORDER BY created_ms DESC, point_id DESC LIMIT ?3");
                statement.Bind(1, after?.CreatedMs ?? long.MaxValue).Bind(2, after?.PointId ?? Id16.Empty).Bind(3, count);
                if (vmId is { } id)
                {
                    statement.Bind(4, id);
                }
                return ReadAll(statement);
            },
            cancellationToken);

    /// <summary>All points of a machine that are not forgotten, newest first, without streams.</summary>
    public ValueTask<List<PointRow>> ListOfMachineAsync(Id16 vmId, CancellationToken cancellationToken) =>
        ListAsync(vmId, includeForgotten: false, after: null, int.MaxValue, cancellationToken);

    /// <summary>Machines that have points that are not forgotten.</summary>
    public ValueTask<List<Id16>> ListMachinesAsync(CancellationToken cancellationToken) =>
        database.ReadAsync(
            static connection =>
            {
                var ids = new List<Id16>();
                using var statement = connection.Prepare("SELECT DISTINCT vm_id FROM point WHERE forgotten = 0 ORDER BY vm_id");
                while (statement.Step())
                {
                    ids.Add(statement.GetId16(0));
                }
                return ids;
            },
            cancellationToken);

    /// <summary>Every point's id and whether it is forgotten.</summary>
    public ValueTask<Dictionary<Id16, bool>> ListIdsAsync(CancellationToken cancellationToken) =>
        database.ReadAsync(
            static connection =>
            {
                var ids = new Dictionary<Id16, bool>();
                using var statement = connection.Prepare("SELECT point_id, forgotten FROM point");
                while (statement.Step())
                {
                    ids.Add(statement.GetId16(0), statement.GetInt64(1) != 0);
                }
                return ids;
            },
            cancellationToken);

    /// <summary>The points that came from a peer and are not forgotten.</summary>
    public ValueTask<HashSet<Id16>> ListOfPeerAsync(string peer, CancellationToken cancellationToken) =>
        database.ReadAsync(
            connection =>
            {
                var ids = new HashSet<Id16>();
                using var statement = connection.Prepare("SELECT point_id FROM point WHERE peer = ?1 AND forgotten = 0");
                statement.Bind(1, peer);
                while (statement.Step())
                {
                    ids.Add(statement.GetId16(0));
                }
                return ids;
            },
            cancellationToken);

    /// <summary>Points that there are no keys for.</summary>
    public ValueTask<List<Id16>> ListSealedAsync(Id16 origin, CancellationToken cancellationToken) =>
        database.ReadAsync(
            connection =>
            {
                var ids = new List<Id16>();
                using var statement = connection.Prepare("SELECT point_id FROM point WHERE sealed = 1 AND origin = ?1");
                statement.Bind(1, origin);
                while (statement.Step())
                {
                    ids.Add(statement.GetId16(0));
                }
                return ids;
            },
            cancellationToken);

    /// <summary>How many points the machine has that are not forgotten, and when the newest was made (null: none).</summary>
    public ValueTask<(int Count, long? NewestMs)> SummariseAsync(Id16 vmId, CancellationToken cancellationToken) =>
        database.ReadAsync(
            connection =>
            {
                using var statement = connection.Prepare("SELECT count(*), max(created_ms) FROM point WHERE vm_id = ?1 AND forgotten = 0");
                statement.Bind(1, vmId).Step();
                return ((int)statement.GetInt64(0), statement.GetTime(1));
            },
            cancellationToken);

    public ValueTask<long> CountAsync(CancellationToken cancellationToken) =>
        database.ReadAsync(
            static connection =>
            {
                using var statement = connection.Prepare("SELECT count(*) FROM point WHERE forgotten = 0");
                statement.Step();
                return statement.GetInt64(0);
            },
            cancellationToken);

    private static void Insert(ISqlConnection connection, PointRow point)
    {
        using (var statement = connection.Prepare($"INSERT INTO point ({Columns}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21)"))
        {
            statement.Bind(1, point.PointId).Bind(2, point.VmId).Bind(3, point.VmName).Bind(4, point.Agent).Bind(5, point.CreatedMs)
                .Bind(6, point.Sequence).Bind(7, point.Consistency).Bind(8, point.ConsistencyDetail).Bind(9, point.LogicalBytes)
                .Bind(10, point.ReadBytes).Bind(11, point.StoredBytes).Bind(12, point.BasePointId).Bind(13, point.HypervisorKind)
                .Bind(14, point.Forgotten ? 1 : 0).Bind(15, point.FrozenMs)
                .Bind(16, point.State?.MemoryBytes ?? 0).Bind(17, point.State?.StoredBytes ?? 0).Bind(18, point.State?.PausedMs ?? 0)
                .Bind(19, point.Origin).Bind(20, point.Peer).Bind(21, point.Sealed ? 1 : 0).Execute();
        }
        using var streams = connection.Prepare(
            "INSERT INTO point_stream (point_id, position, stream_id, name, kind, length_bytes, format, read_bytes, read_reason) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)");
        for (var i = 0; i < point.Streams.Count; i++)
        {
            var stream = point.Streams[i];
            streams.Bind(1, point.PointId).Bind(2, i).Bind(3, stream.StreamId).Bind(4, stream.Name).Bind(5, stream.Kind)
                .Bind(6, stream.LengthBytes).Bind(7, stream.Format).Bind(8, stream.ReadBytes).Bind(9, stream.ReadReason).Execute();
        }
    }

    private static void Delete(ISqlConnection connection, Id16 pointId)
    {
        using (var streams = connection.Prepare("DELETE FROM point_stream WHERE point_id = ?1"))
        {
            streams.Bind(1, pointId).Execute();
        }
        using var statement = connection.Prepare("DELETE FROM point WHERE point_id = ?1");
        statement.Bind(1, pointId).Execute();
    }

    private static PointRow WithStreams(ISqlConnection connection, PointRow point)
    {
        var streams = new List<PointStreamRow>();
        using var statement = connection.Prepare(
            "SELECT stream_id, name, kind, length_bytes, format, read_bytes, read_reason FROM point_stream WHERE point_id = ?1 ORDER BY position");
        statement.Bind(1, point.PointId);
        while (statement.Step())
        {
            streams.Add(new PointStreamRow(
                statement.GetString(0)!, statement.GetString(1)!, statement.GetString(2)!, statement.GetInt64(3), statement.GetString(4)!,
                statement.GetInt64(5), statement.GetString(6)!));
        }
        return point with { Streams = streams };
    }

    private static List<PointRow> ReadAll(IStatement statement)
    {
        var rows = new List<PointRow>();
        while (statement.Step())
        {
            rows.Add(Read(statement));
        }
        return rows;
    }

    private static PointRow Read(IStatement statement) => new()
    {
        PointId = statement.GetId16(0),
        VmId = statement.GetId16(1),
        VmName = statement.GetString(2)!,
        Agent = statement.GetString(3)!,
        CreatedMs = statement.GetInt64(4),
        Sequence = statement.GetInt64(5),
        Consistency = (int)statement.GetInt64(6),
        ConsistencyDetail = statement.GetString(7)!,
        LogicalBytes = statement.GetInt64(8),
        ReadBytes = statement.GetInt64(9),
        StoredBytes = statement.GetInt64(10),
        BasePointId = statement.GetId16(11),
        HypervisorKind = statement.GetString(12)!,
        Forgotten = statement.GetInt64(13) != 0,
        FrozenMs = statement.GetInt64(14),
        State = statement.GetInt64(15) is > 0 and var memory ? new PointStateRow(memory, statement.GetInt64(16), statement.GetInt64(17)) : null,
        Origin = statement.GetId16(18),
        Peer = statement.GetString(19)!,
        Sealed = statement.GetInt64(20) != 0,
    };
}
