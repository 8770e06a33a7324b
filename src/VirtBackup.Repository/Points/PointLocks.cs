using VirtBackup.Core;
using VirtBackup.Format;

namespace VirtBackup.Repository.Points;

/// <summary>
/// Retention locks: objects <c>locks/&lt;point&gt;/&lt;until&gt;</c> that are only ever added, so that a lock can be lengthened and
/// never shortened. Whoever deletes asks here, and judges by a trusted time. Times are Unix milliseconds. Safe for concurrent use.
/// </summary>
public sealed class PointLocks(IObjectStore store)
{
    /// <summary>Until when the point is locked; 0: it never was.</summary>
    public async ValueTask<long> FindAsync(Id16 point, CancellationToken cancellationToken)
    {
        var until = 0L;
        await foreach (var info in store.ListAsync($"{ObjectKeys.LocksPrefix}{point}/", cancellationToken))
        {
            if (ObjectKeys.TryParseLock(info.Key, out _, out var found))
            {
                until = Math.Max(until, found);
            }
        }
        return until;
    }

    /// <summary>Every point that was ever locked, and until when.</summary>
    public async ValueTask<IReadOnlyDictionary<Id16, long>> ListAsync(CancellationToken cancellationToken)
    {
        var locks = new Dictionary<Id16, long>();
        await foreach (var info in store.ListAsync(ObjectKeys.LocksPrefix, cancellationToken))
        {
            if (ObjectKeys.TryParseLock(info.Key, out var point, out var until))
            {
                locks[point] = Math.Max(until, locks.GetValueOrDefault(point));
            }
        }
        return locks;
    }

    /// <summary>Locks the point until then; durable when it returns. The same lock may be put again.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.FailedPrecondition"/>: it is locked for longer already.</exception>
    public async ValueTask LengthenAsync(Id16 point, long untilMs, CancellationToken cancellationToken)
    {
        var until = await FindAsync(point, cancellationToken);
        if (until > untilMs)
        {
            throw new FaultException(
                FaultReason.FailedPrecondition,
                $"The recovery point {point} is locked until {ToText(until)} already; a lock can be lengthened, never shortened.");
        }
        if (until < untilMs)
        {
            // False: somebody put the same lock meanwhile.
            _ = await store.PutAsync(ObjectKeys.Lock(point, untilMs), ReadOnlyMemory<byte>.Empty, cancellationToken);
        }
    }

    /// <exception cref="FaultException"><see cref="FaultReason.RetentionLocked"/>.</exception>
    public async ValueTask RequireUnlockedAsync(Id16 point, long nowMs, CancellationToken cancellationToken)
    {
        if (await FindAsync(point, cancellationToken) is var until && until > nowMs)
        {
            throw new FaultException(FaultReason.RetentionLocked, $"The recovery point {point} is locked until {ToText(until)} and cannot be forgotten before.");
        }
    }

    private static string ToText(long ms) => $"{DateTimeOffset.FromUnixTimeMilliseconds(Math.Min(ms, DateTimeOffset.MaxValue.ToUnixTimeMilliseconds())):yyyy-MM-dd HH:mm} UTC";
}
