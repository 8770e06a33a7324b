using VirtBackup.Core;
using VirtBackup.Database;
using VirtBackup.Format.Manifests;
using VirtBackup.Repository.Points;

namespace VirtBackup.Repository.Index;

/// <summary>A commit whose outcome the store has yet to tell.</summary>
internal sealed record PendingCommit(Id16 Point, Id16 Vm, Id32 ManifestHash);

/// <summary>Statements on recovery points, pending commits and key objects. Each method runs inside a transaction of the caller.</summary>
internal static class PointTable
{
    private const string Columns =
        """
        point, vm, lineage, scope, sequence, created_ms, generation, attempt, manifest, manifest_bytes,
        previous_manifest, base_manifest, agent_key, stream_bytes, state
        """;

    public static void Put(ISqlConnection connection, Manifest manifest, bool isComplete)
    {
        var head = manifest.Head;
        using var statement = connection.Prepare(
            $"""
            INSERT INTO point({Columns}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)
            ON CONFLICT(point) DO UPDATE SET
                vm = excluded.vm, lineage = excluded.lineage, scope = excluded.scope, sequence = excluded.sequence,
                created_ms = excluded.created_ms, generation = excluded.generation, attempt = excluded.attempt,
                manifest = excluded.manifest, manifest_bytes = excluded.manifest_bytes, previous_manifest = excluded.previous_manifest,
                base_manifest = excluded.base_manifest, agent_key = excluded.agent_key, stream_bytes = excluded.stream_bytes,
                state = excluded.state
            """);
        statement.Bind(1, head.Point).Bind(2, head.Vm).Bind(3, head.Lineage).Bind(4, head.Scope).Bind(5, head.Sequence)
            .Bind(6, head.CreatedMs).Bind(7, head.Generation).Bind(8, head.Attempt).Bind(9, manifest.Hash)
            .Bind(10, manifest.Bytes.Length).Bind(11, head.PreviousManifest).Bind(12, head.BaseManifest).Bind(13, head.AgentKeyId)
            .Bind(14, head.Streams.Sum(stream => stream.Geometry.StreamLength)).Bind(15, isComplete ? 0 : 1);
        statement.Execute();
        RemovePending(connection, head.Point);
    }

    public static RecoveryPointInfo? Find(ISqlConnection connection, Id16 point)
    {
        using var statement = connection.Prepare($"SELECT {Columns} FROM point WHERE point = ?1");
        return statement.Bind(1, point).Step() ? Read(statement) : null;
    }

    /// <summary>The points of a VM by sequence, or of all VMs.</summary>
    public static List<RecoveryPointInfo> List(ISqlConnection connection, Id16? vm)
    {
        using var statement = vm is null
            ? connection.Prepare($"SELECT {Columns} FROM point ORDER BY vm, sequence, point")
            : connection.Prepare($"SELECT {Columns} FROM point WHERE vm = ?1 ORDER BY sequence, point");
        if (vm is { } wanted)
        {
            statement.Bind(1, wanted);
        }
        var points = new List<RecoveryPointInfo>();
        while (statement.Step())
        {
            points.Add(Read(statement));
        }
        return points;
    }

    public static RecoveryPointInfo? FindTip(ISqlConnection connection, Id16 vm)
    {
        using var statement = connection.Prepare($"SELECT {Columns} FROM point WHERE vm = ?1 ORDER BY sequence DESC, point LIMIT 1");
        return statement.Bind(1, vm).Step() ? Read(statement) : null;
    }

    public static bool Remove(ISqlConnection connection, Id16 point)
    {
        using var statement = connection.Prepare("DELETE FROM point WHERE point = ?1");
        return statement.Bind(1, point).Execute() > 0;
    }

    public static void PutPending(ISqlConnection connection, Manifest manifest, long nowMs)
    {
        var roots = new byte[manifest.Head.Streams.Count * Id32.Size];
        for (var i = 0; i < manifest.Head.Streams.Count; i++)
        {
            manifest.Head.Streams[i].Root.Write(roots.AsSpan(i * Id32.Size));
        }
        using var statement = connection.Prepare(
            """
            INSERT INTO pending_commit(point, vm, manifest, roots, created_ms) VALUES (?1, ?2, ?3, ?4, ?5)
            ON CONFLICT(point) DO UPDATE SET
                vm = excluded.vm, manifest = excluded.manifest, roots = excluded.roots, created_ms = excluded.created_ms
            """);
        statement.Bind(1, manifest.Head.Point).Bind(2, manifest.Head.Vm).Bind(3, manifest.Hash).Bind(4, roots).Bind(5, nowMs).Execute();
    }

    public static void RemovePending(ISqlConnection connection, Id16 point)
    {
        using var statement = connection.Prepare("DELETE FROM pending_commit WHERE point = ?1");
        statement.Bind(1, point).Execute();
    }

    public static List<PendingCommit> ListPending(ISqlConnection connection)
    {
        using var statement = connection.Prepare("SELECT point, vm, manifest FROM pending_commit ORDER BY point");
        var pending = new List<PendingCommit>();
        while (statement.Step())
        {
            pending.Add(new PendingCommit(statement.GetId16(0), statement.GetId16(1), statement.GetId32(2)));
        }
        return pending;
    }

    public static void AddKey(ISqlConnection connection, Id16 vm, Id16 epoch, Id16 recipient)
    {
        using var statement = connection.Prepare(
            "INSERT INTO vm_key(vm, epoch, recipient) VALUES (?1, ?2, ?3) ON CONFLICT(vm, epoch, recipient) DO NOTHING");
        statement.Bind(1, vm).Bind(2, epoch).Bind(3, recipient).Execute();
    }

    /// <summary>The first of <paramref name="epochs"/> without any key object, or null.</summary>
    public static Id16? FindEpochWithoutKey(ISqlConnection connection, Id16 vm, IEnumerable<Id16> epochs)
    {
        using var statement = connection.Prepare("SELECT 1 FROM vm_key WHERE vm = ?1 AND epoch = ?2 LIMIT 1");
        statement.Bind(1, vm);
        foreach (var epoch in epochs)
        {
            if (!statement.Bind(2, epoch).Step())
            {
                return epoch;
            }
            statement.Reset();
        }
        return null;
    }

    private static RecoveryPointInfo Read(IStatement row) => new()
    {
        Point = row.GetId16(0), Vm = row.GetId16(1), Lineage = row.GetId16(2), Scope = row.GetId16(3), Sequence = row.GetInt64(4),
        CreatedMs = row.GetInt64(5), Generation = row.GetInt64(6), Attempt = row.GetInt64(7), ManifestHash = row.GetId32(8),
        ManifestBytes = row.GetInt64(9), PreviousManifest = row.GetId32(10), BaseManifest = row.GetId32(11), AgentKeyId = row.GetId16(12),
        StreamBytes = row.GetInt64(13), IsComplete = row.GetInt64(14) == 0,
    };
}
