using System.Security.Cryptography;
using VirtBackup.Core;
using VirtBackup.Database;
using VirtBackup.Format;
using VirtBackup.Format.Manifests;
using VirtBackup.Format.Records;
using VirtBackup.Repository.Index;
using VirtBackup.Repository.Points;
using VirtBackup.Repository.Reading;

namespace VirtBackup.Repository.Auditing;

/// <summary>
/// Recounts every reference, from the manifests that the store holds, never from the index's list of points, and compares.
/// An object that is counted too seldom, or anything that cannot be read, stops all deletion until a later audit is sound.
/// Backups go on meanwhile: they only add to counts, so what looks counted too often is looked at again while nothing changes.
/// Memory: 4 bytes for each object. Runs once per instance, and never beside a collection.
/// </summary>
internal sealed class ReferenceAudit(IObjectStore store, IDatabase index, Gate changingPoints, TimeProvider clock, int suspectsMax = ReferenceAudit.SuspectsMax)
{
    /// <summary>Objects that may be counted too often and are remembered.</summary>
    public const int SuspectsMax = 1 << 20;

    private const int RowsPerRead = 16 << 10;

    private readonly int _suspectsMax = suspectsMax;
    private readonly NumberedCounts _counts = new();
    private readonly HashSet<Id16> _points = [];
    private readonly NodeReader _nodes = new(store, index);
    private AuditReport _report = new();

    /// <exception cref="FaultException">The store or the index failed; a recount that found something wrong is a report.</exception>
    public async ValueTask<AuditReport> RunAsync(CancellationToken cancellationToken)
    {
        var before = await index.ReadAsync(AuditRow.Read, cancellationToken);
        var excess = Id32.Zero;
        try
        {
            await CountPointsAsync(cancellationToken);
            var (suspects, holding) = await CompareAsync(cancellationToken);
            excess = await SettleAsync(suspects, holding, before?.Excess ?? Id32.Zero, cancellationToken);
        }
        catch (AuditStoppedException stopped)
        {
            _report = _report with { Problem = stopped.Message };
        }
        var row = new AuditRow(clock.GetUtcNow().ToUnixTimeMilliseconds(), _report.Problem, excess);
        await index.WriteAsync(row.Write, cancellationToken);
        return _report;
    }

    private async ValueTask CountPointsAsync(CancellationToken cancellationToken)
    {
        var manifests = new List<string>();
        using (await changingPoints.CloseAsync(cancellationToken))
        {
            await foreach (var info in store.ListAsync(ObjectKeys.RecoveryPointsPrefix, cancellationToken))
            {
                manifests.Add(info.Key);
            }
            await foreach (var info in store.ListAsync(ObjectKeys.TrashPrefix, cancellationToken))
            {
                if (PointKeeper.TryParseTrash(info.Key, out _, out _))
                {
                    manifests.Add(info.Key);
                }
            }
        }
        foreach (var key in manifests)
        {
            await CountPointAsync(key, cancellationToken);
        }
    }

    private async ValueTask CountPointAsync(string key, CancellationToken cancellationToken)
    {
        if (await store.FindAsync(key, cancellationToken) is null)
        {
            // Forgotten or recalled meanwhile: it is counted where it lies now, at the latest when suspects are settled.
            return;
        }
        Manifest manifest;
        try
        {
            var bytes = await store.ReadAllAsync(key, Limits.ManifestBytesMax, cancellationToken);
            if (AbortTombstone.IsTombstone(bytes))
            {
                return;
            }
            manifest = Manifest.Parse(bytes);
        }
        catch (FaultException fault) when (StoreHealth.IsDamage(fault))
        {
            throw new AuditStoppedException($"The manifest {key} cannot be read, so nobody knows what it needs: {fault.Message}");
        }
        // A copy in the trash does not count beside the manifest at its own key.
        if (!_points.Add(manifest.Head.Point))
        {
            return;
        }
        _report = _report with { Points = _report.Points + 1 };
        await CountRootsAsync(manifest.Head.Streams.Select(static stream => stream.Root).Where(static root => !root.IsZero).Distinct(), cancellationToken);
    }

    private async ValueTask CountRootsAsync(IEnumerable<Id32> roots, CancellationToken cancellationToken)
    {
        foreach (var root in roots)
        {
            if (await CountAsync(RecordKind.Map, [root], cancellationToken) is [var number])
            {
                await DescendAsync(root, number, cancellationToken);
            }
        }
    }

    private async ValueTask DescendAsync(Id32 root, long rootNumber, CancellationToken cancellationToken)
    {
        var open = new Stack<(Id32 Id, long Number)>();
        open.Push((root, rootNumber));
        while (open.TryPop(out var node))
        {
            if (!_counts.TryMark(node.Number))
            {
                continue;
            }
            var children = await ReadChildrenAsync(node.Id, cancellationToken);
            var numbers = await CountAsync(children.Kind, children.Ids, cancellationToken);
            if (children.Kind == RecordKind.Map)
            {
                var at = 0;
                foreach (var child in children.Ids)
                {
                    if (!_counts.IsMarked(numbers[at]))
                    {
                        open.Push((child, numbers[at]));
                    }
                    at++;
                }
            }
        }
    }

    private async ValueTask<NodeChildren> ReadChildrenAsync(Id32 node, CancellationToken cancellationToken)
    {
        try
        {
            var children = NodeChildren.Of(await _nodes.ReadAsync(node, cancellationToken));
            _report = _report with { Nodes = _report.Nodes + 1 };
            return children;
        }
        catch (FaultException fault) when (StoreHealth.IsDamage(fault))
        {
            throw new AuditStoppedException($"The map node {node} cannot be read, so nobody knows what hangs below it: {fault.Message}");
        }
    }

    /// <summary>One more reference to each; their numbers.</summary>
    private async ValueTask<long[]> CountAsync(RecordKind kind, IReadOnlyCollection<Id32> ids, CancellationToken cancellationToken)
    {
        var numbers = await index.ReadAsync(
            connection =>
            {
                using var find = connection.Prepare("SELECT number FROM object WHERE id = ?1 AND kind = ?2 LIMIT 1");
                find.Bind(2, (long)kind);
                var found = new long[ids.Count];
                var at = 0;
                foreach (var id in ids)
                {
                    found[at++] = find.Bind(1, id).Step() ? find.GetInt64(0) : throw new AuditStoppedException($"The {(kind == RecordKind.Data ? "chunk" : "map node")} {id} is needed and is not in the index.");
                    find.Reset();
                }
                return found;
            },
            cancellationToken);
        foreach (var number in numbers)
        {
            _counts.Add(number);
        }
        _report = _report with { References = _report.References + numbers.Length };
        return numbers;
    }

    /// <summary>
    /// Compares all rows. A count that is too low stops it. Returned are objects whose count may be too high, and nodes that
    /// hold their children although no point reaches them.
    /// </summary>
    private async ValueTask<(List<(RecordKind Kind, Id32 Id)> Suspects, List<Id32> Holding)> CompareAsync(CancellationToken cancellationToken)
    {
        var suspects = new List<(RecordKind, Id32)>();
        var holding = new List<Id32>();
        var isTooMuch = false;
        for (var after = (Id: Id32.Zero, Kind: 0L); ;)
        {
            var from = after;
            var rows = await index.ReadAsync(
                connection =>
                {
                    using var list = connection.Prepare(
                        "SELECT id, kind, number, count, holds FROM object WHERE (id, kind) > (?1, ?2) ORDER BY id, kind LIMIT ?3");
                    list.Bind(1, from.Id).Bind(2, from.Kind).Bind(3, RowsPerRead);
                    long read = 0;
                    while (list.Step())
                    {
                        read++;
                        var (id, kind, number, count) = (list.GetId32(0), (RecordKind)list.GetInt64(1), list.GetInt64(2), list.GetInt64(3));
                        after = (id, (long)kind);
                        if (count < _counts[number])
                        {
                            throw new AuditStoppedException($"The {kind} object {id} is counted {count} times and needed {_counts[number]} times.");
                        }
                        if (isTooMuch)
                        {
                            continue;
                        }
                        if (count > _counts[number])
                        {
                            suspects.Add((kind, id));
                        }
                        if (list.GetInt64(4) != 0 && !_counts.IsMarked(number))
                        {
                            holding.Add(id);
                        }
                    }
                    return read;
                },
                cancellationToken);
            _report = _report with { Rows = _report.Rows + rows };
            if (rows == 0)
            {
                // Counts that are too high endanger nothing: beyond the bound nothing is set right this time.
                return isTooMuch ? ([], []) : (suspects, holding);
            }
            if (suspects.Count > _suspectsMax || holding.Count > _suspectsMax)
            {
                isTooMuch = true;
                suspects.Clear();
                holding.Clear();
            }
        }
    }

    /// <summary>
    /// Looks at suspects once more while nothing changes: with points that came meanwhile, pending commits, and nodes that
    /// wait for their release.
    /// </summary>
    private async ValueTask<Id32> SettleAsync(
        List<(RecordKind Kind, Id32 Id)> suspects, List<Id32> holding, Id32 knownExcess, CancellationToken cancellationToken)
    {
        if (suspects.Count == 0 || !await CountHoldingAsync(holding, cancellationToken)
            || (await index.ReadAsync(connection => FindExcess(connection, suspects), cancellationToken)).Count == 0)
        {
            return Id32.Zero;
        }
        using var still = await changingPoints.CloseAsync(cancellationToken);
        await foreach (var info in store.ListAsync(ObjectKeys.RecoveryPointsPrefix, cancellationToken))
        {
            await CountPointAsync(info.Key, cancellationToken);
        }
        await foreach (var info in store.ListAsync(ObjectKeys.TrashPrefix, cancellationToken))
        {
            if (PointKeeper.TryParseTrash(info.Key, out _, out _))
            {
                await CountPointAsync(info.Key, cancellationToken);
            }
        }
        foreach (var roots in await index.ReadAsync(PointTable.ListPendingRoots, cancellationToken))
        {
            await CountRootsAsync(roots, cancellationToken);
        }
        var excess = await index.ReadAsync(connection => FindExcess(connection, suspects), cancellationToken);
        if (excess.Count == 0)
        {
            return Id32.Zero;
        }
        var name = NameOf(excess);
        _report = _report with { CountedTooOften = excess.Count };
        if (name != knownExcess)
        {
            return name;
        }
        await index.WriteAsync(connection => excess.ForEach(row => SetCount(connection, row.Kind, row.Id, row.Needed)), cancellationToken);
        _report = _report with { Repaired = excess.Count };
        return Id32.Zero;
    }

    /// <summary>Counts what nodes hold that no point reaches. False: one cannot be read, so nobody knows what it holds.</summary>
    private async ValueTask<bool> CountHoldingAsync(List<Id32> holding, CancellationToken cancellationToken)
    {
        foreach (var node in holding.Distinct())
        {
            try
            {
                var children = NodeChildren.Of(await _nodes.ReadAsync(node, cancellationToken));
                _report = _report with { Nodes = _report.Nodes + 1 };
                await CountAsync(children.Kind, children.Ids, cancellationToken);
            }
            catch (FaultException fault) when (StoreHealth.IsDamage(fault))
            {
                return false;
            }
        }
        return true;
    }

    private List<(RecordKind Kind, Id32 Id, long Needed, long Count)> FindExcess(ISqlConnection connection, List<(RecordKind Kind, Id32 Id)> suspects)
    {
        using var find = connection.Prepare("SELECT number, count FROM object WHERE id = ?1 AND kind = ?2 LIMIT 1");
        var excess = new List<(RecordKind, Id32, long, long)>();
        foreach (var (kind, id) in suspects)
        {
            if (find.Bind(1, id).Bind(2, (long)kind).Step() && find.GetInt64(1) > _counts[find.GetInt64(0)])
            {
                excess.Add((kind, id, _counts[find.GetInt64(0)], find.GetInt64(1)));
            }
            find.Reset();
        }
        return excess;
    }

    private static void SetCount(ISqlConnection connection, RecordKind kind, Id32 id, long count)
    {
        using var set = connection.Prepare("UPDATE object SET count = ?3 WHERE id = ?1 AND kind = ?2");
        set.Bind(1, id).Bind(2, (long)kind).Bind(3, count).Execute();
    }

    private static Id32 NameOf(List<(RecordKind Kind, Id32 Id, long Needed, long Count)> excess)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        foreach (var (kind, id, needed, count) in excess)
        {
            hash.AppendData(id.ToArray());
            hash.AppendData(BitConverter.GetBytes((long)kind));
            hash.AppendData(BitConverter.GetBytes(count - needed));
        }
        return Id32.Read(hash.GetHashAndReset());
    }

    /// <summary>Something was found that forbids deletion; the rest need not be counted.</summary>
    [System.Diagnostics.CodeAnalysis.SuppressMessage("Design", "CA1032", Justification = "Thrown and caught in this class only.")]
    [System.Diagnostics.CodeAnalysis.SuppressMessage("Design", "CA1064", Justification = "Thrown and caught in this class only.")]
    private sealed class AuditStoppedException(string message) : Exception(message);
}
