using Microsoft.Extensions.Logging;
using VirtBackup.Catalog;
using VirtBackup.Format;
using VirtBackup.Repository;
using VirtBackup.Repository.Scrubbing;
using VirtBackup.Repository.Verification;

namespace VirtBackup.Controller.Scrubbing;

/// <summary>
/// Keeps the catalog's damages in step with what the repository finds, and logs each as it opens and closes. Safe for
/// concurrent use.
/// </summary>
public sealed partial class DamageLedger(BackupRepository repository, CatalogDatabase catalog, TimeProvider time, ILogger<DamageLedger> logger)
{
    private readonly HashSet<(string Key, long FoundMs)> _toldHealed = [];

    /// <summary>Notes what is wrong with packs, and which of it is healed; also what was healed before anybody could be told.</summary>
    /// <param name="unreadable">Packs that the last run could not read, or that are at odds with the index.</param>
    /// <param name="cancellationToken">Stops between steps; the next call goes on.</param>
    public async ValueTask NotePacksAsync(IReadOnlyList<(string Key, string Problem)> unreadable, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(unreadable);
        var now = time.NowMs();
        var packs = await repository.Upkeep.ListDamagesAsync(cancellationToken);
        var open = packs.Where(static pack => pack.HealedMs == 0).ToList();
        var listed = await ListOpenAsync(open, cancellationToken);
        var known = listed.Select(static row => row.ObjectKey).ToHashSet(StringComparer.Ordinal);
        var losses = new LossesByPack(open.Select(static pack => pack.ObjectKey).Where(key => !known.Contains(key)).Distinct());
        await FindAsync(losses, cancellationToken);
        await OpenAsync(
            [
                .. open.Where(pack => !known.Contains(pack.ObjectKey)).Select(pack => new DamageRow(0, pack.ObjectKey, pack.Problem, pack.FoundMs, 0, losses.Find(pack.ObjectKey), losses.IsCut)),
                .. unreadable.Where(pack => !known.Contains(pack.Key)).Select(pack => new DamageRow(0, pack.Key, pack.Problem, now, 0, [], false)),
            ],
            cancellationToken);
        var stillOpen = open.Select(static pack => pack.ObjectKey).Concat(unreadable.Select(static pack => pack.Key)).ToHashSet(StringComparer.Ordinal);
        var healed = packs.GroupBy(static pack => pack.ObjectKey, StringComparer.Ordinal).ToDictionary(static group => group.Key, static group => group.Max(static pack => pack.HealedMs), StringComparer.Ordinal);
        var over = new List<DamageRow>();
        foreach (var row in listed.Where(row => row.ObjectKey.StartsWith(ObjectKeys.PacksPrefix, StringComparison.Ordinal) && !stillOpen.Contains(row.ObjectKey)))
        {
            if (healed.GetValueOrDefault(row.ObjectKey) >= Math.Max(1, row.FoundMs) || await IsProvenSinceAsync(row, cancellationToken))
            {
                over.Add(row);
            }
        }
        await CloseAsync(over, cancellationToken);
        await TellHealedAsync(packs, known, cancellationToken);
    }

    /// <summary>Notes what a check of everything but packs found; what it does not find any more is over.</summary>
    public async ValueTask NoteObjectsAsync(IReadOnlyList<Damage> damages, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(damages);
        var now = time.NowMs();
        var listed = await catalog.Damages.ListOpenAsync(cancellationToken);
        await OpenAsync(
            [.. damages.DistinctBy(static damage => damage.ObjectKey).Select(damage => new DamageRow(0, damage.ObjectKey, damage.Problem, now, 0, [.. damage.Affected.Select(ToRow)], damage.AffectedIsCut))],
            cancellationToken);
        var found = damages.Select(static damage => damage.ObjectKey).ToHashSet(StringComparer.Ordinal);
        await CloseAsync(listed.FindAll(row => !row.ObjectKey.StartsWith(ObjectKeys.PacksPrefix, StringComparison.Ordinal) && !found.Contains(row.ObjectKey)), cancellationToken);
    }

    private static DamagedRangeRow ToRow(AffectedRange range) => new(range.Point, range.Vm, range.Stream, range.Range.Offset, range.Range.Length, IsDoubtful: false);

    private async ValueTask OpenAsync(IReadOnlyCollection<DamageRow> found, CancellationToken cancellationToken)
    {
        if (found.Count == 0)
        {
            return;
        }
        foreach (var row in await catalog.Damages.OpenAsync(found, cancellationToken))
        {
            LogDamaged(row.ObjectKey, row.Problem, row.Ranges.Select(static range => range.PointId).Distinct().Count(), row.Ranges.Sum(static range => range.Length));
        }
    }

    private async ValueTask CloseAsync(List<DamageRow> healed, CancellationToken cancellationToken)
    {
        if (healed.Count == 0)
        {
            return;
        }
        await catalog.Damages.CloseAsync(healed, time.NowMs(), cancellationToken);
        healed.ForEach(row => LogHealed(row.ObjectKey));
    }

    /// <summary>What is listed as open. A pack that could not be read, and is in doubt by now, is listed anew: with what that takes.</summary>
    private async ValueTask<List<DamageRow>> ListOpenAsync(List<DamagedPack> open, CancellationToken cancellationToken)
    {
        var listed = await catalog.Damages.ListOpenAsync(cancellationToken);
        var outdated = listed.FindAll(row => open.Exists(pack => pack.ObjectKey == row.ObjectKey && pack.FoundMs > row.FoundMs && pack.Problem != row.Problem));
        if (outdated.Count > 0)
        {
            await catalog.Damages.CloseAsync(outdated, time.NowMs(), cancellationToken);
        }
        return listed.FindAll(row => !outdated.Contains(row));
    }

    /// <summary>By its own proof; a pack that the index does not know, because it was made anew, by a proof of everything.</summary>
    private async ValueTask<bool> IsProvenSinceAsync(DamageRow row, CancellationToken cancellationToken)
    {
        if (await repository.Upkeep.FindPackProofAsync(row.ObjectKey, cancellationToken) is { } proof)
        {
            return proof > row.FoundMs;
        }
        var oldest = (await repository.Upkeep.ReadProofAsync(0, cancellationToken)).OldestMs;
        return oldest is null || oldest > row.FoundMs;
    }

    /// <summary>A damage that a repair ended at once is listed all the same: a device that errs says so in small things first.</summary>
    private async ValueTask TellHealedAsync(IReadOnlyList<DamagedPack> packs, HashSet<string> known, CancellationToken cancellationToken)
    {
        List<DamagedPack> untold;
        lock (_toldHealed)
        {
            untold = [.. packs.Where(pack => pack.HealedMs > 0 && _toldHealed.Add((pack.ObjectKey, pack.FoundMs)))];
        }
        foreach (var pack in untold)
        {
            if (!known.Contains(pack.ObjectKey) && !await catalog.Damages.IsListedAsync(pack.ObjectKey, pack.FoundMs, cancellationToken))
            {
                var row = new DamageRow(0, pack.ObjectKey, pack.Problem, pack.FoundMs, 0, [], RangesCut: false);
                LogDamaged(row.ObjectKey, row.Problem, 0, 0);
                await CloseAsync(await catalog.Damages.OpenAsync([row], cancellationToken), cancellationToken);
            }
        }
    }

    private async ValueTask FindAsync(LossesByPack losses, CancellationToken cancellationToken)
    {
        if (losses.IsWanted)
        {
            foreach (var point in await repository.Upkeep.ListDamagedPointsAsync(cancellationToken))
            {
                losses.Add(await repository.Upkeep.FindLossesAsync(point.Point, cancellationToken));
            }
        }
    }

    [LoggerMessage(Level = LogLevel.Error, Message = "Damage: {ObjectKey}: {Problem} It takes {Bytes} bytes of {Points} recovery points.")]
    private partial void LogDamaged(string objectKey, string problem, int points, long bytes);

    [LoggerMessage(Level = LogLevel.Warning, Message = "Healed, or not needed any more: {ObjectKey}.")]
    private partial void LogHealed(string objectKey);

    /// <summary>What some packs took, as far as it is listed.</summary>
    private sealed class LossesByPack(IEnumerable<string> wanted)
    {
        private readonly Dictionary<string, List<DamagedRangeRow>> _ranges = wanted.ToDictionary(static key => key, static _ => new List<DamagedRangeRow>(), StringComparer.Ordinal);

        public bool IsWanted => _ranges.Count > 0;

        public bool IsCut { get; private set; }

        public void Add(IReadOnlyList<PointLoss> losses)
        {
            IsCut |= losses.Count == PointLoss.RunsMax;
            foreach (var loss in losses)
            {
                // One more than is kept tells that there are more.
                if (_ranges.TryGetValue(ObjectKeys.Pack(loss.Pack), out var rows) && rows.Count <= DamageRecords.RangesMax)
                {
                    rows.Add(ToRow(loss.Range) with { IsDoubtful = loss.IsDoubtful });
                }
            }
        }

        public List<DamagedRangeRow> Find(string key) => _ranges[key];
    }
}
