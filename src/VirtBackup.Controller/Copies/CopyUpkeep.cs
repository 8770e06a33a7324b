using Microsoft.Extensions.Logging;
using VirtBackup.Controller.Scrubbing;
using VirtBackup.Core;
using VirtBackup.Repository.Collection;
using VirtBackup.Repository.Scrubbing;
using VirtBackup.Sealing;

namespace VirtBackup.Controller.Copies;

/// <summary>Keeps an open copy store as the repository is kept: frees what no point needs, reads everything again and again, and heals.</summary>
/// <param name="sources">Where sound copies of its damaged records are looked for.</param>
internal sealed partial class CopyUpkeep(CopyParts parts, OpenCopy copy, IReadOnlyList<IRecordSource> sources, ILogger logger)
{
    /// <summary>After the opening. The repository itself comes first.</summary>
    private static readonly TimeSpan FirstCollection = TimeSpan.FromMinutes(45);

    private static readonly TimeSpan CollectionInterval = TimeSpan.FromHours(6);

    private static readonly TimeSpan ScrubInterval = TimeSpan.FromMinutes(5);

    /// <summary>Everything but packs is checked so often.</summary>
    private static readonly TimeSpan ObjectsInterval = TimeSpan.FromDays(1);

    private const long SliceBytes = 256 << 20;

    private long? _objectsChecked;

    public Task CollectAsync(CancellationToken cancellationToken) => RepeatAsync(
        FirstCollection, CollectionInterval,
        async () =>
        {
            var report = await copy.Repository.CollectAsync(new CollectionOptions { Time = parts.Clock }, cancellationToken);
            if (report.PointsPurged + report.RecordsRemoved + report.PacksDeleted + report.Problems.Count > 0)
            {
                LogCollected(copy.Row.Name, report.PointsPurged, report.RecordsRemoved, report.PacksDeleted, report.BytesFreed, report.Problems.Count);
            }
        },
        cancellationToken);

    public Task ScrubAsync(CancellationToken cancellationToken) => RepeatAsync(
        ScrubInterval, ScrubInterval,
        async () =>
        {
            if (!parts.Scrub.Off)
            {
                await CheckObjectsAsync(cancellationToken);
                while (!await ReadDueAsync(cancellationToken))
                {
                }
            }
            _ = await copy.Repository.Upkeep.SettleAsync(cancellationToken);
        },
        cancellationToken);

    /// <summary>Reads packs that are due, and heals what is damaged. True: nothing is due any more.</summary>
    private async ValueTask<bool> ReadDueAsync(CancellationToken cancellationToken)
    {
        var upkeep = copy.Repository.Upkeep;
        using var opener = new EscrowedChunkOpener(parts.Keyholder, parts.Repository.Head);
        var now = parts.Time.NowMs();
        var proof = await upkeep.ReadProofAsync(now, cancellationToken);
        var report = await upkeep.ScrubAsync(
            new ScrubOptions
            {
                CheckedBeforeMs = now - (parts.Scrub.Days * ScrubService.HalfDayMs), BytesMax = SliceBytes, Opener = opener,
                BytesPerSecond = ScrubService.RateOf(proof.Bytes, parts.Scrub.Days, parts.Scrub.ReadBytesPerSecondMax),
            },
            cancellationToken);
        foreach (var finding in report.Findings)
        {
            LogDamaged(copy.Row.Name, finding.ObjectKey, finding.Problem, finding.RecordsLost, finding.RecordsDoubtful);
        }
        foreach (var problem in report.Problems)
        {
            LogProblem(copy.Row.Name, problem.ObjectKey, problem.Problem);
        }
        if ((await upkeep.ListDamagesAsync(cancellationToken)).Any(static pack => pack.HealedMs == 0))
        {
            var healed = await upkeep.HealAsync(sources, opener, cancellationToken);
            if (healed.HealedCount > 0)
            {
                LogHealed(copy.Row.Name, healed.HealedCount, healed.Missing);
            }
        }
        return report.IsDone;
    }

    private async ValueTask CheckObjectsAsync(CancellationToken cancellationToken)
    {
        if (_objectsChecked is { } before && parts.Time.GetElapsedTime(before) < ObjectsInterval)
        {
            return;
        }
        foreach (var damage in await copy.Repository.Upkeep.CheckObjectsAsync(new KeptSignatures(copy.Store), cancellationToken))
        {
            LogProblem(copy.Row.Name, damage.ObjectKey, damage.Problem);
        }
        _objectsChecked = parts.Time.GetTimestamp();
    }

    /// <summary>A failure is told, and it is tried again: the store itself is watched by its runs.</summary>
    private async Task RepeatAsync(TimeSpan first, TimeSpan interval, Func<ValueTask> work, CancellationToken cancellationToken)
    {
        await Task.Yield();
        await Task.Delay(first, parts.Time, cancellationToken);
        while (true)
        {
            try
            {
                await work();
            }
            catch (FaultException fault)
            {
                LogNotNow(copy.Row.Name, fault.Message);
            }
            await Task.Delay(interval, parts.Time, cancellationToken);
        }
    }

    [LoggerMessage(Level = LogLevel.Information, Message = "Collection in the copy store '{Store}': {Purged} recovery points purged, {Removed} records removed, {Deleted} packs deleted ({Freed} bytes), {Problems} problems.")]
    private partial void LogCollected(string store, long purged, long removed, long deleted, long freed, int problems);

    [LoggerMessage(Level = LogLevel.Error, Message = "Damage in the copy store '{Store}': {ObjectKey}: {Problem} Records: {Lost} lost, {Doubtful} doubtful.")]
    private partial void LogDamaged(string store, string objectKey, string problem, long lost, long doubtful);

    [LoggerMessage(Level = LogLevel.Warning, Message = "Copy store '{Store}': {ObjectKey}: {Problem}")]
    private partial void LogProblem(string store, string objectKey, string problem);

    [LoggerMessage(Level = LogLevel.Warning, Message = "Copy store '{Store}': {Healed} damaged records were healed from other places; {Missing} are nowhere.")]
    private partial void LogHealed(string store, long healed, long missing);

    [LoggerMessage(Level = LogLevel.Warning, Message = "The upkeep of the copy store '{Store}' waits: {Reason}")]
    private partial void LogNotNow(string store, string reason);
}
