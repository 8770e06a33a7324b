using VirtBackup.Core;
using VirtBackup.Database;
using VirtBackup.Format;
using VirtBackup.Format.Manifests;
using VirtBackup.Repository.Index;

namespace VirtBackup.Repository.Verification;

/// <summary>
/// Verifies a repository without changing it: first every pack, then every recovery point against what the packs turned
/// out to hold; or one recovery point with the packs that it needs. Memory is bounded; backups may run meanwhile. Use an
/// instance once.
/// </summary>
internal sealed class Verifier
{
    private const int PacksPerPage = 256;

    private readonly IObjectStore _store;
    private readonly IDatabase _index;
    private readonly RepositoryHead _head;
    private readonly VerificationOptions _options;
    private readonly DamageLog _log = new();
    private readonly PackVerifier _packs;
    private readonly PointVerifier _points;
    private long _bytesTotal;

    public Verifier(IObjectStore store, IDatabase index, RepositoryHead head, VerificationOptions options)
    {
        _head = head;
        _store = store;
        _index = index;
        _options = options;
        var damage = new PackDamage();
        _packs = new PackVerifier(store, index, _log, damage);
        _points = new PointVerifier(store, index, _log, damage, options);
    }

    public async ValueTask<VerificationReport> RunAsync(CancellationToken cancellationToken)
    {
        await new HeadVerifier(_store, _head, _log).VerifyAsync(cancellationToken);
        if (_options.Point is { } point)
        {
            await VerifyPointAsync(point, cancellationToken);
            // Its packs hold records of other points, too: damage that this one does not feel is not its.
            Damage[] damages = [.. _log.ToList().Where(static damage => damage.Affected.Count > 0 || !damage.ObjectKey.StartsWith(ObjectKeys.PacksPrefix, StringComparison.Ordinal))];
            return new VerificationReport(_packs.Packs, _packs.Bytes, _points.Points, _points.ChunksOpened, damages, damages.Length);
        }
        _bytesTotal = (await _index.ReadAsync(StatisticsQuery.Run, cancellationToken)).PackBytes;
        await VerifyKnownPacksAsync(cancellationToken);
        await VerifyUnknownPacksAsync(cancellationToken);
        await VerifyPointsAsync(cancellationToken);
        return new VerificationReport(_packs.Packs, _packs.Bytes, _points.Points, _points.ChunksOpened, _log.ToList(), _log.Count);
    }

    /// <exception cref="FaultException"><see cref="FaultReason.NotFound"/>: the repository does not list the point.</exception>
    private async ValueTask VerifyPointAsync(Id16 point, CancellationToken cancellationToken)
    {
        var known = await _index.ReadAsync(connection => PointTable.Find(connection, point), cancellationToken)
            ?? throw new FaultException(FaultReason.NotFound, $"There is no recovery point {point} in the repository; a forgotten one must be brought back first.");
        var key = ObjectKeys.Manifest(known.Vm, point);
        if (await _store.FindAsync(key, cancellationToken) is not { } info)
        {
            _log.Add(key, "The manifest of this recovery point is missing.");
            return;
        }
        var packs = await FindPacksAsync(key, cancellationToken);
        _bytesTotal = packs.Sum(static pack => pack.Bytes);
        foreach (var (number, hash, bytes) in packs)
        {
            await _packs.VerifyAsync(number, hash, bytes, cancellationToken);
            ReportProgress();
        }
        await _points.VerifyAsync(info, cancellationToken);
        ReportProgress();
    }

    private async ValueTask<List<(long Number, Id32 Hash, long Bytes)>> FindPacksAsync(string manifestKey, CancellationToken cancellationToken)
    {
        Manifest manifest;
        try
        {
            manifest = Manifest.Parse(await _store.ReadAllAsync(manifestKey, Limits.ManifestBytesMax, cancellationToken));
        }
        catch (FaultException fault) when (fault.Reason is FaultReason.Malformed or FaultReason.Corrupt or FaultReason.Unsupported)
        {
            // Told when the point itself is verified; what it needed is not known.
            return [];
        }
        var numbers = await new PointPacks(_store, _index).FindAsync(manifest.Head, cancellationToken);
        return await _index.ReadAsync(connection => numbers.SelectMany(number => ListPacks(connection, number - 1, 1).Where(pack => pack.Number == number)).ToList(), cancellationToken);
    }

    private static List<(long Number, Id32 Hash, long Bytes)> ListPacks(ISqlConnection connection, long after, int count)
    {
        using var list = connection.Prepare("SELECT number, hash, bytes FROM pack WHERE number > ?1 AND state = 0 ORDER BY number LIMIT ?2");
        list.Bind(1, after).Bind(2, count);
        var rows = new List<(long, Id32, long)>();
        while (list.Step())
        {
            rows.Add((list.GetInt64(0), list.GetId32(1), list.GetInt64(2)));
        }
        return rows;
    }

    private async ValueTask VerifyKnownPacksAsync(CancellationToken cancellationToken)
    {
        for (var last = 0L; ;)
        {
            var after = last;
            var page = await _index.ReadAsync(connection => ListPacks(connection, after, PacksPerPage), cancellationToken);
            if (page.Count == 0)
            {
                return;
            }
            foreach (var (number, hash, bytes) in page)
            {
                await _packs.VerifyAsync(number, hash, bytes, cancellationToken);
                ReportProgress();
                last = number;
            }
        }
    }

    /// <summary>Packs that are not in the index: damaged ones were left out of it, others are being uploaded at this moment.</summary>
    private async ValueTask VerifyUnknownPacksAsync(CancellationToken cancellationToken)
    {
        await foreach (var info in _store.ListAsync(ObjectKeys.PacksPrefix, cancellationToken))
        {
            if (!ObjectKeys.TryParsePack(info.Key, out var hash))
            {
                _log.Add(info.Key, "The object is not named as a pack.");
            }
            else if (await _index.ReadAsync(connection => PackTable.Find(connection, hash), cancellationToken) is null)
            {
                await _packs.VerifyAsync(null, hash, info.Length, cancellationToken);
                ReportProgress();
            }
        }
    }

    private async ValueTask VerifyPointsAsync(CancellationToken cancellationToken)
    {
        var seen = new HashSet<Id16>();
        var known = await _index.ReadAsync(connection => PointTable.List(connection, null), cancellationToken);
        await foreach (var info in _store.ListAsync(ObjectKeys.RecoveryPointsPrefix, cancellationToken))
        {
            if (await _points.VerifyAsync(info, cancellationToken) is { } point)
            {
                seen.Add(point);
            }
            ReportProgress();
        }
        foreach (var point in known)
        {
            // Looked up again: it may have been forgotten meanwhile.
            if (!seen.Contains(point.Point)
                && await _index.ReadAsync(connection => PointTable.Find(connection, point.Point), cancellationToken) is not null)
            {
                _log.Add(ObjectKeys.Manifest(point.Vm, point.Point), "The manifest of this recovery point is missing.");
            }
        }
    }

    private void ReportProgress() => _options.Progress?.Report(
        new VerificationProgress(_packs.Packs, _packs.Bytes, _bytesTotal, _points.Points, _points.ChunksOpened, (int)Math.Min(_log.Count, int.MaxValue)));
}
