using VirtBackup.Agent.Flow;
using VirtBackup.Core;
using VirtBackup.Hypervisors;
using VirtBackup.Hypervisors.Guests;
using VirtBackup.Protocol.Common.V1;

namespace VirtBackup.Agent.Guests;

/// <summary>
/// Watches a guest's writes during one backup, holds reading back when they suffer, and tells how they fared. Trouble with
/// measuring never is the backup's trouble.
/// </summary>
internal sealed class GuestImpactWatch : IAsyncDisposable
{
    private static readonly TimeSpan Interval = TimeSpan.FromMilliseconds(250);
    /// <summary>Reading begins at full speed: for a while it is looked at more often, so that it does not last long where that is too fast.</summary>
    private static readonly TimeSpan FirstInterval = TimeSpan.FromMilliseconds(100);
    private static readonly TimeSpan FirstSpan = TimeSpan.FromSeconds(2);
    /// <summary>A guest that writes, but rarely, is looked at for so much longer before its cut.</summary>
    private static readonly TimeSpan BaselineWait = TimeSpan.FromMilliseconds(500);
    private const long BaselineOperations = 20;

    private readonly ImpactBudget _budget;
    private readonly IGuestWriteMeter _meter;
    private readonly GuestWrites _opened;
    private readonly RunProgress _progress;
    private readonly TimeProvider _time;
    private GuestWrites _cut = GuestWrites.None;
    private GuestWrites _last = GuestWrites.None;
    private TimeSpan? _baseline;
    private TimeSpan _throttled;
    private TimeSpan _allowed;
    private bool _isCut;

    private GuestImpactWatch(ImpactBudget budget, IGuestWriteMeter meter, GuestWrites opened, RunProgress progress, TimeProvider time)
    {
        (_budget, _meter, _opened, _progress, _time) = (budget, meter, opened, progress, time);
        Limit = new ReadRateLimit(0, time);
    }

    /// <summary>What readers wait for.</summary>
    public ReadRateLimit Limit { get; }

    /// <summary>Begins to look at the guest, long enough before its cut to know how it fares without a backup.</summary>
    /// <returns>Null: the policy does not ask for it, or this machine does not tell.</returns>
    public static async Task<GuestImpactWatch?> OpenAsync(
        IHypervisor hypervisor, Id16 machine, ImpactBudget budget, RunProgress progress, TimeProvider time, CancellationToken cancellationToken)
    {
        if (!budget.IsWatched)
        {
            return null;
        }
        try
        {
            var meter = await hypervisor.OpenWriteMeterAsync(machine, cancellationToken);
            if (meter?.Shortcoming is { } shortcoming)
            {
                progress.Log($"Of the guest's writes only the mean latency is known, not how it spreads: {shortcoming}.");
            }
            return meter is null ? null : new GuestImpactWatch(budget, meter, await meter.ReadAsync(cancellationToken), progress, time);
        }
        catch (FaultException fault)
        {
            progress.Log($"The guest's writes are not watched: {fault.Message}");
            return null;
        }
    }

    /// <summary>The cut comes next: what was seen until now is the baseline.</summary>
    public async Task EndBaselineAsync(CancellationToken cancellationToken)
    {
        var seen = await TryReadAsync(cancellationToken);
        if (seen?.Since(_opened).Operations is > 0 and < BaselineOperations)
        {
            await Task.Delay(BaselineWait, _time, cancellationToken);
            seen = await TryReadAsync(cancellationToken);
        }
        _baseline = seen?.Since(_opened).Mean;
    }

    /// <summary>Reading begins: what comes now counts as the backup's.</summary>
    public async Task BeginReadingAsync(CancellationToken cancellationToken)
    {
        if (await TryReadAsync(cancellationToken) is { } now)
        {
            (_cut, _last, _isCut) = (now, now, true);
        }
    }

    /// <summary>Governs until it is cancelled.</summary>
    /// <param name="bytesRead">What was read so far.</param>
    public async Task GovernAsync(Func<long> bytesRead, CancellationToken cancellationToken)
    {
        var governor = new ReadGovernor(_budget, _baseline);
        _allowed = governor.Allowed;
        var (lastBytes, lastAt) = (bytesRead(), _time.GetTimestamp());
        var begun = lastAt;
        while (!cancellationToken.IsCancellationRequested)
        {
            try
            {
                await Task.Delay(_time.GetElapsedTime(begun) < FirstSpan ? FirstInterval : Interval, _time, cancellationToken);
                if (await TryReadAsync(cancellationToken) is not { } now)
                {
                    continue;
                }
                var (bytes, at) = (bytesRead(), _time.GetTimestamp());
                var passed = _time.GetElapsedTime(lastAt, at);
                if (Limit.TakeHeldBack())
                {
                    _throttled += passed;
                }
                var interval = now.Since(_last);
                governor.Judge(interval.Operations, interval.TotalNs, (bytes - lastBytes) / Math.Max(passed.TotalSeconds, 0.001));
                Apply(governor.BytesPerSecondMax);
                (_last, lastBytes, lastAt) = (now, bytes, at);
            }
            catch (OperationCanceledException)
            {
                return;
            }
        }
    }

    private void Apply(long bytesPerSecond)
    {
        if (Limit.BytesPerSecond == 0 && bytesPerSecond > 0)
        {
            _progress.Log($"The guest's writes have become slower than {_allowed.TotalMilliseconds:0.##} ms: reading gives way.");
        }
        Limit.BytesPerSecond = bytesPerSecond;
    }

    /// <summary>How the guest fared since <see cref="BeginReadingAsync"/>; null: it is not known.</summary>
    public async Task<GuestImpact?> SummariseAsync(CancellationToken cancellationToken)
    {
        if (!_isCut || await TryReadAsync(cancellationToken) is not { } now)
        {
            return null;
        }
        var during = now.Since(_cut);
        return new GuestImpact
        {
            Operations = (ulong)during.Operations,
            BaselineUs = Us(_baseline),
            MeanUs = Us(during.Mean),
            P50Us = Us(during.Quantile(0.5)),
            P99Us = Us(during.Quantile(0.99)),
            MaxUs = Us(during.Quantile(1)),
            BudgetUs = Us(_allowed),
            ThrottledMs = (ulong)_throttled.TotalMilliseconds,
        };
    }

    private static ulong Us(TimeSpan? time) => (ulong)Math.Max(0, time?.TotalMicroseconds ?? 0);

    private async Task<GuestWrites?> TryReadAsync(CancellationToken cancellationToken)
    {
        try
        {
            return await _meter.ReadAsync(cancellationToken);
        }
        catch (FaultException)
        {
            return null; // the machine has ended, or somebody holds its monitor: the next reading tells more
        }
    }

    public ValueTask DisposeAsync() => _meter.DisposeAsync();
}
