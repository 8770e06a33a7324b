using VirtBackup.Core;
using VirtBackup.Proofs.Installation;
using VirtBackup.Proofs.Simulation;
using VirtBackup.Repository.Collection;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.CrashSimulation;

/// <summary>Runs of the collector, and what they did.</summary>
/// <param name="site">Where it runs.</param>
/// <param name="repackDeadPercent">From which share on packs are written anew.</param>
/// <param name="ahead">Planted defect: how far ahead the collector's time is.</param>
internal sealed class Collections(Site site, int repackDeadPercent, TimeSpan ahead)
{
    private readonly List<CollectionReport> _reports = [];

    public int RepackDeadPercent => repackDeadPercent;

    /// <summary>Under which its operations are counted.</summary>
    public static string StageOf(CollectionStage stage) => stage == CollectionStage.None ? "collect" : $"collect:{stage}";

    /// <summary>One run, beside whatever goes on; the power may fail in it.</summary>
    /// <exception cref="RefutedException">It refuses to delete, although nothing is wrong.</exception>
    public async Task RunAsync(Power power)
    {
        var report = new CollectionReport();
        var options = new CollectionOptions
        {
            RepackDeadPercent = repackDeadPercent,
            Time = ahead > TimeSpan.Zero ? new AheadClock(site.Calendar, ahead) : null,
            Progress = new Follower(progress =>
            {
                Stage.Rename(StageOf(progress.Stage));
                report = progress.Report;
            }),
        };
        try
        {
            report = await site.Repository.CollectAsync(options, CancellationToken.None).AsTask().WaitAsync(power.Off);
        }
        catch (FaultException refusal) when (!power.IsOff)
        {
            throw new RefutedException($"The collector refuses a sound repository: {refusal.Message}");
        }
        finally
        {
            _reports.Add(report);
        }
        if ((report.Problems is [var first, ..] ? first : report.Audit?.Problem) is { } problem)
        {
            throw new RefutedException($"The collector finds something wrong in a sound repository: {problem}");
        }
    }

    /// <summary>How many seeds had what, and how much, since the last call.</summary>
    public void Count(Coverage coverage, bool isEnd)
    {
        var when = isEnd ? "end" : "before";
        Count("purged-points", report => report.PointsPurged);
        Count("released-nodes", report => report.NodesReleased);
        Count("condemned-records", report => report.RecordsCondemned);
        Count("removed-records", report => report.RecordsRemoved);
        Count("repacked-packs", report => report.PacksRepacked);
        Count("trashed-packs", report => report.PacksTrashed);
        Count("deleted-packs", report => report.PacksDeleted);
        Count("audits", report => report.Audit is null ? 0 : 1);
        _reports.Clear();

        void Count(string what, Func<CollectionReport, long> amount)
        {
            var sum = _reports.Sum(amount);
            coverage.Count($"freed:{what}", sum);
            coverage.Count($"seeds-{when}:{what}", sum > 0 ? 1 : 0);
        }
    }

    private sealed class Follower(Action<CollectionProgress> follow) : IProgress<CollectionProgress>
    {
        public void Report(CollectionProgress value) => follow(value);
    }

    private sealed class AheadClock(Calendar calendar, TimeSpan ahead) : ITrustedClock
    {
        public ValueTask<TrustedTime> ReadAsync(CancellationToken cancellationToken) =>
            new(new TrustedTime(calendar.NowMs + (long)ahead.TotalMilliseconds, MayExpire: true));
    }
}
