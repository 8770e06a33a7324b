using VirtBackup.Core;
using VirtBackup.Database;
using VirtBackup.Repository.Commits;
using VirtBackup.Repository.Points;

namespace VirtBackup.Repository.Collection;

/// <summary>What the stages of one run share. One stage at a time.</summary>
internal sealed class CollectionRun
{
    /// <summary>Rows of one transaction, about: writers of backups wait no longer than for these.</summary>
    public const int RowsPerTransaction = 2048;

    private readonly List<string> _problems = [];

    public required IObjectStore Store { get; init; }
    public required IDatabase Index { get; init; }
    public required Ownership Owner { get; init; }
    public required PointKeeper Points { get; init; }
    public required RecoveryPointCommitter Committer { get; init; }
    public required LiveClaims Claims { get; init; }
    public required CollectionOptions Options { get; init; }
    public required FlooredClock Clock { get; init; }

    /// <summary>Closed while points change: commits, forgetting, releasing.</summary>
    public required Gate ChangingPoints { get; init; }

    /// <summary>Closed while objects are deleted, or relied on without having been sent.</summary>
    public required Gate Deleting { get; init; }

    public required int PackBytesTarget { get; init; }

    public CollectionReport Report { get; set; } = new();

    public bool IsDryRun => Options.IsDryRun;

    /// <summary>The time at the begin of the stage, Unix milliseconds.</summary>
    public long NowMs { get; private set; }

    public long Before(TimeSpan time) => NowMs - (long)time.TotalMilliseconds;

    /// <summary>Reads the time for the next stage.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.FailedPrecondition"/>: it is not certain.</exception>
    public async ValueTask ReadTimeAsync(CancellationToken cancellationToken)
    {
        if (Options.Time is not { } trusted)
        {
            NowMs = Clock.GetUtcNow().ToUnixTimeMilliseconds();
            return;
        }
        var (nowMs, mayExpire) = await trusted.ReadAsync(cancellationToken);
        Clock.Raise(nowMs);
        NowMs = mayExpire
            ? nowMs
            : throw new FaultException(
                FaultReason.FailedPrecondition, "The clock has jumped, so nothing is deleted until the time is confirmed: virtbackup controller confirm-time.");
    }

    /// <summary>Neither claimed by an open session nor as young as the oldest of them.</summary>
    public bool IsUnclaimed(long number, long createdMs) => createdMs < Claims.OldestSessionMs && !Claims.IsPinned(number);

    /// <summary>Runs a change that no commit, probe or upload may cross.</summary>
    public async ValueTask<T> ChangeAsync<T>(Func<ISqlConnection, T> body, CancellationToken cancellationToken)
    {
        using var points = await ChangingPoints.CloseAsync(cancellationToken);
        using var deleting = await Deleting.CloseAsync(cancellationToken);
        return IsDryRun ? await Index.ReadAsync(body, cancellationToken) : await Index.WriteAsync(body, cancellationToken);
    }

    public void AddProblem(string problem)
    {
        if (_problems.Count < CollectionReport.ProblemsMax)
        {
            _problems.Add(problem);
            Report = Report with { Problems = [.. _problems] };
        }
    }
}
