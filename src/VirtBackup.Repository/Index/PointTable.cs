using VirtBackup.Core;
using VirtBackup.Database;
using VirtBackup.Format.Manifests;
using VirtBackup.Repository.Points;

namespace VirtBackup.Repository.Index;

/// <summary>A commit whose outcome the store has yet to tell.</summary>
internal sealed record PendingCommit(Id16 Point, Id16 Vm, Id32 ManifestHash, long CreatedMs);

/// <summary>Statements on recovery points, pending commits and key objects. Each method runs inside a transaction of the caller.</summary>
internal static class PointTable
{
    private const string Columns =
        """
        point, vm, lineage, scope, sequence, created_ms, generation, attempt, manifest, manifest_bytes,
        previous_manifest, base_manifest, agent_key, stream_bytes, state, origin
        """;

    /// <summary>
    /// Brings a manifest into the index; its roots are counted, unless something below them is missing. The counts of its
    /// pending commit become the point's.
    /// </summary>
    public static void Put(ISqlConnection connection, Manifest manifest, bool isComplete, long forgottenMs)
    {
        var head = manifest.Head;
        var roots = RootsOf(manifest);
        var isCounted = FindPending(connection, head.Point) is { } pending && pending.ManifestHash == manifest.Hash && isComplete;
        if (isComplete && !isCounted)
        {
            ReferenceCounts.AddRoots(connection, roots);
        }
        if (!isCounted)
        {
            RemovePending(connection, head.Point);
        }
        Remove(connection, head.Point);
        using var statement = connection.Prepare(
            $"INSERT INTO point({Columns}, roots, forgotten_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18)");
        statement.Bind(1, head.Point).Bind(2, head.Vm).Bind(3, head.Lineage).Bind(4, head.Scope).Bind(5, head.Sequence)
            .Bind(6, head.CreatedMs).Bind(7, head.Generation).Bind(8, head.Attempt).Bind(9, manifest.Hash)
            .Bind(10, manifest.Bytes.Length).Bind(11, head.PreviousManifest).Bind(12, head.BaseManifest).Bind(13, head.AgentKeyId)
            .Bind(14, head.Streams.Sum(stream => stream.Geometry.StreamLength)).Bind(15, (long)(isComplete ? PointState.Whole : PointState.Uncounted)).Bind(16, head.Repository).Bind(17, roots).Bind(18, forgottenMs);
        statement.Execute();
        DropPendingRow(connection, head.Point);
    }

    public static RecoveryPointInfo? Find(ISqlConnection connection, Id16 point)
    {
        using var statement = connection.Prepare($"SELECT {Columns} FROM point WHERE point = ?1 AND forgotten_ms = 0");
        return statement.Bind(1, point).Step() ? Read(statement) : null;
    }

    /// <summary>A point that is forgotten, and since when.</summary>
    public static (RecoveryPointInfo Info, long ForgottenMs)? FindForgotten(ISqlConnection connection, Id16 point)
    {
        using var statement = connection.Prepare($"SELECT {Columns}, forgotten_ms FROM point WHERE point = ?1 AND forgotten_ms > 0");
        return statement.Bind(1, point).Step() ? (Read(statement), statement.GetInt64(16)) : null;
    }

    /// <summary>Forgotten points, the oldest first.</summary>
    public static List<(RecoveryPointInfo Info, long ForgottenMs)> ListForgotten(ISqlConnection connection)
    {
        using var statement = connection.Prepare($"SELECT {Columns}, forgotten_ms FROM point WHERE forgotten_ms > 0 ORDER BY forgotten_ms, point");
        var points = new List<(RecoveryPointInfo, long)>();
        while (statement.Step())
        {
            points.Add((Read(statement), statement.GetInt64(16)));
        }
        return points;
    }

    /// <summary>Visible points, then forgotten ones.</summary>
    public static List<(RecoveryPointInfo Info, bool IsForgotten)> ListAll(ISqlConnection connection) =>
        [.. List(connection, null).Select(static info => (info, false)), .. ListForgotten(connection).Select(static row => (row.Info, true))];

    /// <param name="connection">Of a write.</param>
    /// <param name="point">A point in the index.</param>
    /// <param name="forgottenMs">Unix milliseconds; 0: it is visible.</param>
    public static void SetForgotten(ISqlConnection connection, Id16 point, long forgottenMs)
    {
        using var statement = connection.Prepare("UPDATE point SET forgotten_ms = ?2 WHERE point = ?1");
        Check.That(statement.Bind(1, point).Bind(2, forgottenMs).Execute() == 1);
    }

    /// <summary>Whether the machine has, or has forgotten, a point with that manifest.</summary>
    public static bool HasManifest(ISqlConnection connection, Id16 vm, Id16 lineage, Id32 manifest)
    {
        using var statement = connection.Prepare("SELECT 1 FROM point WHERE vm = ?1 AND lineage = ?2 AND manifest = ?3 LIMIT 1");
        return statement.Bind(1, vm).Bind(2, lineage).Bind(3, manifest).Step();
    }

    /// <summary>Points, visible or forgotten, that lacked something when the index was made: what they still have is not counted.</summary>
    public static long CountUncounted(ISqlConnection connection)
    {
        using var statement = connection.Prepare("SELECT count(*) FROM point WHERE state = 1");
        return statement.Step() ? statement.GetInt64(0) : 0;
    }

    /// <summary>Points, visible or forgotten, that lack something.</summary>
    public static List<(RecoveryPointInfo Info, long ForgottenMs, PointState State)> ListIncomplete(ISqlConnection connection)
    {
        using var statement = connection.Prepare($"SELECT {Columns}, forgotten_ms FROM point WHERE state > 0 ORDER BY vm, sequence, point");
        var points = new List<(RecoveryPointInfo, long, PointState)>();
        while (statement.Step())
        {
            points.Add((Read(statement), statement.GetInt64(16), (PointState)statement.GetInt64(14)));
        }
        return points;
    }

    /// <summary>A point, visible or forgotten, if it lacks something, and since when it is forgotten.</summary>
    public static (RecoveryPointInfo Info, long ForgottenMs)? FindIncomplete(ISqlConnection connection, Id16 point)
    {
        using var statement = connection.Prepare($"SELECT {Columns}, forgotten_ms FROM point WHERE point = ?1 AND state > 0");
        return statement.Bind(1, point).Step() ? (Read(statement), statement.GetInt64(16)) : null;
    }

    /// <summary>Marks whole points as damaged: those with a root in the set, or all.</summary>
    public static void MarkDamaged(ISqlConnection connection, IReadOnlySet<Id32>? roots)
    {
        var affected = new List<Id16>();
        using (var list = connection.Prepare("SELECT point, roots FROM point WHERE state = 0"))
        {
            while (list.Step())
            {
                var bytes = list.GetSpan(1);
                var isAffected = roots is null;
                for (var at = 0; at < bytes.Length && !isAffected; at += Id32.Size)
                {
                    isAffected = roots!.Contains(Id32.Read(bytes[at..]));
                }
                if (isAffected)
                {
                    affected.Add(list.GetId16(0));
                }
            }
        }
        affected.ForEach(point => SetState(connection, point, PointState.Damaged));
    }

    public static void SetState(ISqlConnection connection, Id16 point, PointState state)
    {
        using var statement = connection.Prepare("UPDATE point SET state = ?2 WHERE point = ?1");
        statement.Bind(1, point).Bind(2, (long)state).Execute();
    }

    /// <summary>The points of a VM by sequence, or of all VMs.</summary>
    public static List<RecoveryPointInfo> List(ISqlConnection connection, Id16? vm)
    {
        using var statement = vm is null
            ? connection.Prepare($"SELECT {Columns} FROM point WHERE forgotten_ms = 0 ORDER BY vm, sequence, point")
            : connection.Prepare($"SELECT {Columns} FROM point WHERE vm = ?1 AND forgotten_ms = 0 ORDER BY sequence, point");
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

    public static RecoveryPointInfo? FindTip(ISqlConnection connection, Id16 vm, Id16? lineage)
    {
        var condition = lineage is null ? "" : "AND lineage = ?2";
        using var statement = connection.Prepare($"SELECT {Columns} FROM point WHERE vm = ?1 AND forgotten_ms = 0 {condition} ORDER BY sequence DESC, point LIMIT 1");
        statement.Bind(1, vm);
        if (lineage is { } only)
        {
            statement.Bind(2, only);
        }
        return statement.Step() ? Read(statement) : null;
    }

    /// <summary>Removes a point, visible or forgotten, and releases its roots.</summary>
    public static bool Remove(ISqlConnection connection, Id16 point)
    {
        byte[] roots;
        using (var find = connection.Prepare("SELECT state, roots FROM point WHERE point = ?1"))
        {
            if (!find.Bind(1, point).Step())
            {
                return false;
            }
            roots = (PointState)find.GetInt64(0) != PointState.Uncounted ? find.GetBytes(1) : [];
        }
        ReferenceCounts.ReleaseRoots(connection, roots);
        using var statement = connection.Prepare("DELETE FROM point WHERE point = ?1");
        return statement.Bind(1, point).Execute() > 0;
    }

    /// <summary>Keeps everything below the manifest's roots until its outcome is known.</summary>
    public static void PutPending(ISqlConnection connection, Manifest manifest, long nowMs)
    {
        if (FindPending(connection, manifest.Head.Point)?.ManifestHash == manifest.Hash)
        {
            return;
        }
        var roots = RootsOf(manifest);
        ReferenceCounts.AddRoots(connection, roots);
        RemovePending(connection, manifest.Head.Point);
        using var statement = connection.Prepare("INSERT INTO pending_commit(point, vm, manifest, roots, created_ms) VALUES (?1, ?2, ?3, ?4, ?5)");
        statement.Bind(1, manifest.Head.Point).Bind(2, manifest.Head.Vm).Bind(3, manifest.Hash).Bind(4, roots).Bind(5, nowMs).Execute();
    }

    /// <summary>Drops a pending commit and releases its roots.</summary>
    public static void RemovePending(ISqlConnection connection, Id16 point)
    {
        byte[] roots;
        using (var find = connection.Prepare("SELECT roots FROM pending_commit WHERE point = ?1"))
        {
            if (!find.Bind(1, point).Step())
            {
                return;
            }
            roots = find.GetBytes(0);
        }
        ReferenceCounts.ReleaseRoots(connection, roots);
        DropPendingRow(connection, point);
    }

    public static PendingCommit? FindPending(ISqlConnection connection, Id16 point)
    {
        using var statement = connection.Prepare("SELECT point, vm, manifest, created_ms FROM pending_commit WHERE point = ?1");
        return statement.Bind(1, point).Step() ? new PendingCommit(statement.GetId16(0), statement.GetId16(1), statement.GetId32(2), statement.GetInt64(3)) : null;
    }

    public static List<PendingCommit> ListPending(ISqlConnection connection)
    {
        using var statement = connection.Prepare("SELECT point, vm, manifest, created_ms FROM pending_commit ORDER BY point");
        var pending = new List<PendingCommit>();
        while (statement.Step())
        {
            pending.Add(new PendingCommit(statement.GetId16(0), statement.GetId16(1), statement.GetId32(2), statement.GetInt64(3)));
        }
        return pending;
    }

    /// <summary>The roots of each pending commit.</summary>
    public static List<List<Id32>> ListPendingRoots(ISqlConnection connection)
    {
        using var statement = connection.Prepare("SELECT roots FROM pending_commit");
        var all = new List<List<Id32>>();
        while (statement.Step())
        {
            var bytes = statement.GetSpan(0);
            var roots = new List<Id32>();
            for (var at = 0; at < bytes.Length; at += Id32.Size)
            {
                roots.Add(Id32.Read(bytes[at..]));
            }
            all.Add(roots);
        }
        return all;
    }

    public static void AddKey(ISqlConnection connection, Id16 vm, Id16 epoch, Id16 recipient)
    {
        using var statement = connection.Prepare(
            "INSERT INTO vm_key(vm, epoch, recipient) VALUES (?1, ?2, ?3) ON CONFLICT(vm, epoch, recipient) DO NOTHING");
        statement.Bind(1, vm).Bind(2, epoch).Bind(3, recipient).Execute();
    }

    public static bool HasKey(ISqlConnection connection, Id16 vm, Id16 epoch, Id16 recipient)
    {
        using var statement = connection.Prepare("SELECT 1 FROM vm_key WHERE vm = ?1 AND epoch = ?2 AND recipient = ?3");
        return statement.Bind(1, vm).Bind(2, epoch).Bind(3, recipient).Step();
    }

    /// <summary>For whom there is a key object of that epoch.</summary>
    public static List<Id16> ListRecipients(ISqlConnection connection, Id16 vm, Id16 epoch)
    {
        using var statement = connection.Prepare("SELECT recipient FROM vm_key WHERE vm = ?1 AND epoch = ?2 ORDER BY recipient");
        statement.Bind(1, vm).Bind(2, epoch);
        var recipients = new List<Id16>();
        while (statement.Step())
        {
            recipients.Add(statement.GetId16(0));
        }
        return recipients;
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

    /// <summary>The distinct roots of a manifest's streams, none zero.</summary>
    private static byte[] RootsOf(Manifest manifest)
    {
        var roots = manifest.Head.Streams.Select(stream => stream.Root).Where(root => !root.IsZero).Distinct().ToArray();
        var bytes = new byte[roots.Length * Id32.Size];
        for (var i = 0; i < roots.Length; i++)
        {
            roots[i].Write(bytes.AsSpan(i * Id32.Size));
        }
        return bytes;
    }

    private static void DropPendingRow(ISqlConnection connection, Id16 point)
    {
        using var statement = connection.Prepare("DELETE FROM pending_commit WHERE point = ?1");
        statement.Bind(1, point).Execute();
    }

    private static RecoveryPointInfo Read(IStatement row) => new()
    {
        Point = row.GetId16(0), Vm = row.GetId16(1), Lineage = row.GetId16(2), Scope = row.GetId16(3), Sequence = row.GetInt64(4),
        CreatedMs = row.GetInt64(5), Generation = row.GetInt64(6), Attempt = row.GetInt64(7), ManifestHash = row.GetId32(8),
        ManifestBytes = row.GetInt64(9), PreviousManifest = row.GetId32(10), BaseManifest = row.GetId32(11), AgentKeyId = row.GetId16(12),
        StreamBytes = row.GetInt64(13), IsComplete = row.GetInt64(14) == 0, Origin = row.GetId16(15),
    };
}
