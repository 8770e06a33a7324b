using Microsoft.Extensions.Logging;
using VirtBackup.Catalog;
using VirtBackup.Core;

namespace VirtBackup.Controller.Retention;

/// <summary>
/// The time by which points expire: a stored mark that the boot clock advances. The wall clock may run ahead of it by an
/// hour in all (see <see cref="JumpMax"/>); a longer jump is not followed, and nothing may expire until an administrator
/// confirms the time. A wall clock that is set back is not followed either: the mark never goes back by itself.
/// </summary>
/// <param name="boot">Names the host's boot, within which the boot clock goes on across restarts of the process; empty: unknown.</param>
public sealed partial class TrustedClock(TrustedTimeRecords records, string boot, TimeProvider time, ILogger<TrustedClock> logger) : ITrustedClock, IDisposable
{
    /// <summary>What the wall clock may add without the boot clock's word. Part of it comes back as time passes: all in thirty days.</summary>
    public static readonly TimeSpan JumpMax = TimeSpan.FromHours(1);

    private const int ForgivenessDivisor = 720;

    private static readonly TimeSpan SaveInterval = TimeSpan.FromMinutes(1);

    private readonly SemaphoreSlim _reading = new(1, 1);
    private TrustedTimeRow? _state;
    private TrustedTimeRow? _saved;

    /// <summary>Takes up the mark, or makes the first. Before any other call.</summary>
    /// <param name="newestPointMs">When the newest recovery point was made; without a mark, no more than that is known to have passed. Null: there is none.</param>
    public async ValueTask StartAsync(long? newestPointMs, CancellationToken cancellationToken)
    {
        await _reading.WaitAsync(cancellationToken);
        try
        {
            _saved = _state = await records.FindAsync(cancellationToken);
            if (_state is { } stored && (boot.Length == 0 || stored.Boot != boot))
            {
                // The boot clock began anew: how long the host was away, only the wall clock says.
                _state = stored with { Boot = boot, TicksMs = TicksMs };
            }
            else if (_state is null)
            {
                var wall = time.NowMs();
                var newest = newestPointMs ?? wall;
                _state = new TrustedTimeRow(Math.Min(wall, newest), boot, TicksMs, 0, Math.Abs(wall - newest) > JumpMax.TotalMilliseconds);
                if (_state.IsDoubtful)
                {
                    LogDoubtful(ToText(wall), ToText(_state.MarkMs));
                }
            }
            await AdvanceAsync(cancellationToken);
        }
        finally
        {
            _reading.Release();
        }
    }

    public async ValueTask<TrustedTime> ReadAsync(CancellationToken cancellationToken)
    {
        await _reading.WaitAsync(cancellationToken);
        try
        {
            var state = await AdvanceAsync(cancellationToken);
            return new TrustedTime(state.MarkMs, !state.IsDoubtful);
        }
        finally
        {
            _reading.Release();
        }
    }

    /// <summary>Takes the wall clock's time as the time, because somebody with another clock says the same.</summary>
    /// <param name="operatorMs">By the other clock, Unix milliseconds.</param>
    /// <exception cref="FaultException"><see cref="FaultReason.FailedPrecondition"/>: the clocks differ by more than an hour.</exception>
    public async ValueTask<TrustedTime> ConfirmAsync(long operatorMs, CancellationToken cancellationToken)
    {
        await _reading.WaitAsync(cancellationToken);
        try
        {
            var wall = time.NowMs();
            if (Math.Abs(wall - operatorMs) > JumpMax.TotalMilliseconds)
            {
                throw new FaultException(
                    FaultReason.FailedPrecondition, $"The controller's clock says {ToText(wall)}, yours says {ToText(operatorMs)}: set the one that is wrong, then confirm again.");
            }
            var confirmed = new TrustedTimeRow(wall, boot, TicksMs, 0, IsDoubtful: false);
            await records.SaveAsync(confirmed, cancellationToken);
            _saved = _state = confirmed;
            LogConfirmed(ToText(wall));
            return new TrustedTime(wall, MayExpire: true);
        }
        finally
        {
            _reading.Release();
        }
    }

    /// <summary>Keeps the stored mark near the time, until cancelled.</summary>
    public async Task RunAsync(CancellationToken cancellationToken)
    {
        await Task.Yield();
        while (true)
        {
            await Task.Delay(SaveInterval, time, cancellationToken);
            _ = await ReadAsync(cancellationToken);
        }
    }

    public void Dispose() => _reading.Dispose();

    private long TicksMs => (long)time.GetElapsedTime(0, time.GetTimestamp()).TotalMilliseconds;

    private async ValueTask<TrustedTimeRow> AdvanceAsync(CancellationToken cancellationToken)
    {
        Check.That(_state is not null);
        var (before, ticks, wall) = (_state, TicksMs, time.NowMs());
        var elapsed = Math.Max(0, ticks - before.TicksMs);
        var after = before with
        {
            MarkMs = before.MarkMs + elapsed, TicksMs = ticks, UnexplainedMs = Math.Max(0, before.UnexplainedMs - (elapsed / ForgivenessDivisor)),
        };
        var gap = wall - after.MarkMs;
        if (gap > 0 && !after.IsDoubtful)
        {
            if (after.UnexplainedMs + gap <= JumpMax.TotalMilliseconds)
            {
                after = after with { MarkMs = wall, UnexplainedMs = after.UnexplainedMs + gap };
            }
            else
            {
                after = after with { IsDoubtful = true };
                LogDoubtful(ToText(wall), ToText(after.MarkMs));
            }
        }
        _state = after;
        if (_saved is null || after.IsDoubtful != _saved.IsDoubtful || after.MarkMs - _saved.MarkMs >= SaveInterval.TotalMilliseconds)
        {
            await records.SaveAsync(after, cancellationToken);
            _saved = after;
        }
        return after;
    }

    private static string ToText(long ms) => $"{DateTimeOffset.FromUnixTimeMilliseconds(ms):yyyy-MM-dd HH:mm:ss} UTC";

    [LoggerMessage(Level = LogLevel.Error, Message = "The clock says {Wall}, but only {Trusted} is known to have come: no recovery point expires until the time is confirmed (virtbackup controller confirm-time).")]
    private partial void LogDoubtful(string wall, string trusted);

    [LoggerMessage(Level = LogLevel.Warning, Message = "The time {Wall} was confirmed by an operator.")]
    private partial void LogConfirmed(string wall);
}
