using Microsoft.Extensions.Logging;
using VirtBackup.Core;
using VirtBackup.Repository;
using VirtBackup.Repository.Points;

namespace VirtBackup.Controller.Retention;

/// <summary>How far the provider enforces retention locks.</summary>
/// <param name="PointsLocked">Recovery points whose locks last.</param>
/// <param name="PointsEnforced">Those of which the provider retains everything.</param>
/// <param name="ObjectsRetained">Objects that it retains.</param>
/// <param name="ObjectsWaiting">Objects that it is still to be asked for.</param>
/// <param name="Problem">Why the last run ended early; null: it did not.</param>
public sealed record LockOutlook(long PointsLocked, long PointsEnforced, long ObjectsRetained, long ObjectsWaiting, string? Problem);

/// <summary>
/// Has the store's provider retain what locked recovery points need: at once when a lock is placed, and every day all of it,
/// because repairs put records into new packs. It goes on where it was cut off. Nothing happens where the store is not set up
/// for it. Safe for concurrent use.
/// </summary>
public sealed partial class LockEnforcement(BackupRepository repository, PointLocks locks, ITrustedClock clock, TimeProvider time, ILogger<LockEnforcement> logger) : IDisposable
{
    private static readonly TimeSpan s_everything = TimeSpan.FromDays(1);
    private static readonly TimeSpan s_again = TimeSpan.FromMinutes(15);

    private readonly SemaphoreSlim _nudged = new(0, 1);
    private readonly Lock _gate = new();
    private readonly Dictionary<Id16, long> _enforced = [];
    private volatile string? _problem;

    /// <summary>Makes sure that the provider can enforce a lock, if it is to.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.FailedPrecondition"/>: it cannot; the message says why.</exception>
    public ValueTask RequireAsync(CancellationToken cancellationToken) => repository.Retention.RequireAsync(cancellationToken);

    /// <summary>A lock was placed.</summary>
    public void Nudge()
    {
        lock (_gate)
        {
            if (_nudged.CurrentCount == 0)
            {
                _nudged.Release();
            }
        }
    }

    /// <summary>Null: the store is not set up for it.</summary>
    public async ValueTask<LockOutlook?> FindAsync(CancellationToken cancellationToken)
    {
        if (!repository.Retention.IsOn)
        {
            return null;
        }
        var now = (await clock.ReadAsync(cancellationToken)).NowMs;
        var (retained, open) = await repository.Retention.CountAsync(now, cancellationToken);
        var locked = (await locks.ListAsync(cancellationToken)).Where(entry => entry.Value > now).ToList();
        lock (_gate)
        {
            return new LockOutlook(locked.Count, locked.Count(entry => _enforced.GetValueOrDefault(entry.Key) >= entry.Value), retained, open, _problem);
        }
    }

    /// <summary>Enforces locks until cancelled.</summary>
    public async Task RunAsync(CancellationToken cancellationToken)
    {
        await Task.Yield();
        if (!repository.Retention.IsOn)
        {
            await Task.Delay(Timeout.InfiniteTimeSpan, time, cancellationToken);
        }
        long? all = null;
        while (true)
        {
            var isAll = all is not { } last || time.GetElapsedTime(last) >= s_everything;
            var began = time.GetTimestamp();
            if (await TryRunAsync(isAll, cancellationToken) && isAll)
            {
                all = began;
            }
            // Since everything was gone over, whatever nudged meanwhile.
            var left = all is { } done && _problem is null ? s_everything - time.GetElapsedTime(done) : s_again;
            await WaitAsync(left > TimeSpan.Zero ? left : TimeSpan.Zero, cancellationToken);
        }
    }

    public void Dispose() => _nudged.Dispose();

    private async ValueTask WaitAsync(TimeSpan longest, CancellationToken cancellationToken)
    {
        using var limit = new CancellationTokenSource(longest, time);
        using var both = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, limit.Token);
        try
        {
            await _nudged.WaitAsync(both.Token);
        }
        catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
        {
            // It is time.
        }
    }

    /// <param name="isAll">Also points that were done before.</param>
    private async ValueTask<bool> TryRunAsync(bool isAll, CancellationToken cancellationToken)
    {
        string? problem = null;
        try
        {
            var now = (await clock.ReadAsync(cancellationToken)).NowMs;
            await repository.Retention.EndOverAsync(now, cancellationToken);
            foreach (var (point, until) in (await locks.ListAsync(cancellationToken)).Where(entry => entry.Value > now).OrderBy(static entry => entry.Value))
            {
                if (isAll || !IsEnforced(point, until))
                {
                    problem = await TryRetainAsync(point, until, cancellationToken) ?? problem;
                }
            }
        }
        catch (FaultException fault)
        {
            problem = fault.Message;
        }
        if (problem is not null && problem != _problem)
        {
            LogProblem(problem);
        }
        _problem = problem;
        return problem is null;
    }

    private async ValueTask<string?> TryRetainAsync(Id16 point, long untilMs, CancellationToken cancellationToken)
    {
        try
        {
            var count = await repository.Retention.RetainAsync(point, untilMs, cancellationToken);
            lock (_gate)
            {
                _enforced[point] = untilMs;
            }
            if (count > 0)
            {
                LogDone(point, DateTimeOffset.FromUnixTimeMilliseconds(untilMs).ToString("yyyy-MM-dd HH:mm", System.Globalization.CultureInfo.InvariantCulture), count);
            }
            return null;
        }
        catch (FaultException fault)
        {
            return $"Recovery point {point}: {fault.Message}";
        }
    }

    private bool IsEnforced(Id16 point, long untilMs)
    {
        lock (_gate)
        {
            return _enforced.GetValueOrDefault(point) >= untilMs;
        }
    }

    [LoggerMessage(Level = LogLevel.Information, Message = "The store's provider retains what recovery point {Point} needs until {Until} UTC: {Count} objects more than before.")]
    private partial void LogDone(Id16 point, string until, long count);

    [LoggerMessage(Level = LogLevel.Error, Message = "Retention locks bind this controller, but the store's provider does not enforce all of them yet; it is tried again: {Problem}")]
    private partial void LogProblem(string problem);
}
