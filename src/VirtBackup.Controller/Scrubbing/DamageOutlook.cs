using System.Globalization;
using VirtBackup.Catalog;
using VirtBackup.Controller.Admin;
using VirtBackup.Core;
using VirtBackup.Identity;
using VirtBackup.Protocol.Admin.V1;
using VirtBackup.Repository;

namespace VirtBackup.Controller.Scrubbing;

/// <summary>Says how much is proven, what is damaged, and what that takes from recovery points. Safe for concurrent use.</summary>
public sealed class DamageOutlook(BackupRepository repository, CatalogDatabase catalog, ScrubSettings settings, TimeProvider time)
{
    public async ValueTask<RepositoryProof> DescribeAsync(CancellationToken cancellationToken)
    {
        var since = time.NowMs() - (settings.Days * 86_400_000L);
        var message = ScrubMessages.ToMessage(
            await repository.Upkeep.ReadProofAsync(since, cancellationToken), await catalog.Damages.ReadCycleAsync(cancellationToken), settings.Days);
        message.DamagesOpen = (ulong)await catalog.Damages.CountOpenAsync(cancellationToken);
        message.PointsDamaged = (ulong)(await repository.Upkeep.ListDamagedPointsAsync(cancellationToken)).Count;
        message.Off = settings.Off;
        return message;
    }

    /// <summary>Marks the points that lack something.</summary>
    public async ValueTask DescribeAsync(IReadOnlyCollection<RecoveryPoint> points, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(points);
        var damaged = (await repository.Upkeep.ListDamagedPointsAsync(cancellationToken)).Select(static point => point.Point.ToString()).ToHashSet(StringComparer.Ordinal);
        foreach (var point in points.Where(point => damaged.Contains(point.PointId)))
        {
            point.Damaged = true;
        }
    }

    /// <summary>Adds what the point lacks now.</summary>
    public async ValueTask DescribeLossesAsync(RecoveryPoint point, PointRow row, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(point);
        ArgumentNullException.ThrowIfNull(row);
        await DescribeAsync([point], cancellationToken);
        if (point.Damaged)
        {
            point.DamagedRanges.Add((await repository.Upkeep.FindLossesAsync(row.PointId, cancellationToken)).Select(loss => ScrubMessages.ToMessage(
                new DamagedRangeRow(loss.Range.Point, loss.Range.Vm, loss.Range.Stream, loss.Range.Range.Offset, loss.Range.Range.Length, loss.IsDoubtful), row)));
        }
    }

    public async ValueTask<ListDamagesResponse> ListAsync(ListDamagesRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        var size = Paging.SizeOf(request.PageSize);
        var before = Paging.FromToken(request.PageToken, 1) is [var text]
            ? long.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var number) ? number : throw Paging.Invalid()
            : (long?)null;
        var rows = await catalog.Damages.ListAsync(request.IncludeHealed, before, size + 1, cancellationToken);
        var points = new Dictionary<Id16, PointRow?>();
        foreach (var point in rows.SelectMany(static row => row.Ranges).Select(static range => range.PointId).Distinct())
        {
            points.Add(point, await catalog.Points.FindAsync(point, cancellationToken));
        }
        var response = new ListDamagesResponse();
        response.Damages.Add(rows.Take(size).Select(row => ScrubMessages.ToMessage(row, points)));
        response.NextPageToken = rows.Count > size ? Paging.ToToken(rows[size - 1].Number.ToString(CultureInfo.InvariantCulture)) : "";
        return response;
    }
}
