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
    /// <summary>Notes what is wrong with packs, and which of it is healed.</summary>
    /// <param name="unreadable">Packs that the last run could not read, or that are at odds with the index.</param>
    /// <param name="cancellationToken">Stops between steps; the next call goes on.</param>
    public async ValueTask NotePacksAsync(IReadOnlyList<(string Key, string Problem)> unreadable, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(unreadable);
        var now = time.NowMs();
        var packs = await repository.Upkeep.ListDamagesAsync(cancellationToken);
        var open = packs.Where(static pack => pack.HealedMs == 0).ToList();
        var listed = await catalog.Damages.ListOpenAsync(cancellationToken);
        var known = listed.Select(static row => row.ObjectKey).ToHashSet(StringComparer.Ordinal);
        var losses = open.Exists(pack => !known.Contains(pack.ObjectKey)) ? await FindLossesAsync(cancellationToken) : null;
        await OpenAsync(
            [
                .. open.Where(pack => !known.Contains(pack.ObjectKey)).Select(pack => new DamageRow(0, pack.ObjectKey, pack.Problem, pack.FoundMs, 0, losses!.Find(pack.ObjectKey), losses.IsCut)),
                .. unreadable.Where(pack => !known.Contains(pack.Key)).Select(pack => new DamageRow(0, pack.Key, pack.Problem, now, 0, [], false)),
            ],
            cancellationToken);
        var oldest = (await repository.Upkeep.ReadProofAsync(0, cancellationToken)).OldestMs;
        var stillOpen = open.Select(static pack => pack.ObjectKey).Concat(unreadable.Select(static pack => pack.Key)).ToHashSet(StringComparer.Ordinal);
        var healed = packs.Where(static pack => pack.HealedMs > 0).Select(static pack => pack.ObjectKey).ToHashSet(StringComparer.Ordinal);
        // What neither the index nor a newer proof of everything knows to be over stays open: the index may have been made anew.
        await CloseAsync(
            listed.FindAll(row => row.ObjectKey.StartsWith(ObjectKeys.PacksPrefix, StringComparison.Ordinal) && !stillOpen.Contains(row.ObjectKey)
                && (healed.Contains(row.ObjectKey) || oldest is null || oldest > row.FoundMs)),
            cancellationToken);
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

    private async ValueTask<LossesByPack> FindLossesAsync(CancellationToken cancellationToken)
    {
        var losses = new LossesByPack();
        foreach (var point in await repository.Upkeep.ListDamagedPointsAsync(cancellationToken))
        {
            losses.Add(await repository.Upkeep.FindLossesAsync(point.Point, cancellationToken));
        }
        return losses;
    }

    [LoggerMessage(Level = LogLevel.Error, Message = "Damage: {ObjectKey}: {Problem} It takes {Bytes} bytes of {Points} recovery points.")]
    private partial void LogDamaged(string objectKey, string problem, int points, long bytes);

    [LoggerMessage(Level = LogLevel.Warning, Message = "Healed, or not needed any more: {ObjectKey}.")]
    private partial void LogHealed(string objectKey);

    private sealed class LossesByPack
    {
        private readonly Dictionary<string, List<DamagedRangeRow>> _ranges = new(StringComparer.Ordinal);

        public bool IsCut { get; private set; }

        public void Add(IReadOnlyList<PointLoss> losses)
        {
            IsCut |= losses.Count == PointLoss.RunsMax;
            foreach (var loss in losses)
            {
                var key = ObjectKeys.Pack(loss.Pack);
                if (!_ranges.TryGetValue(key, out var rows))
                {
                    _ranges.Add(key, rows = []);
                }
                rows.Add(ToRow(loss.Range) with { IsDoubtful = loss.IsDoubtful });
            }
        }

        public List<DamagedRangeRow> Find(string key) => _ranges.GetValueOrDefault(key) ?? [];
    }
}
