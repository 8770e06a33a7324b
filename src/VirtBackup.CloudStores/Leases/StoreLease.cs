using System.Globalization;
using VirtBackup.Core;

namespace VirtBackup.CloudStores.Leases;

/// <summary>
/// Keeps a second owner from a store that has no lock of its own. The lease is a chain of objects <c>lease/NUMBER</c>, each
/// put only if absent: the highest one holds it. Its holder adds one three times within the lease's length. Whoever sees the
/// same one for that long, by a clock of its own, may add the next. Safe for concurrent use.
/// </summary>
public sealed class StoreLease : IAsyncDisposable
{
    /// <summary>Of the keys of its objects.</summary>
    public const string Prefix = "lease/";

    private const int RenewalsWithinLength = 3;
    private const int LooksWithinLength = 20;
    private static readonly TimeSpan s_goodbye = TimeSpan.FromSeconds(10);

    private readonly IObjectStore _store;
    private readonly TimeProvider _time;
    private readonly LeaseRecord _own;
    private readonly CancellationTokenSource _stopping = new();
    private readonly Task _renewing;
    private long _latest;
    private long _renewedAt;
    private volatile string? _taker;

    private StoreLease(IObjectStore store, TimeProvider time, LeaseRecord own, long number, long takenAt)
    {
        (_store, _time, _own, _latest, _renewedAt) = (store, time, own, number, takenAt);
        _renewing = RenewAsync();
    }

    /// <summary>Takes it. A holder that may have died is waited for, until its lease has ended or it shows that it lives.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.RepositoryBusy"/>: somebody else has it; the message says who.</exception>
    public static async ValueTask<StoreLease> TakeAsync(IObjectStore store, LeaseTerms terms, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(store);
        ArgumentNullException.ThrowIfNull(terms);
        var (seen, latest) = await LookAsync(store, cancellationToken);
        while (latest is { IsGivenBack: false } && latest.Holder != terms.Holder && !await OutwaitAsync(store, terms, seen.Max, latest, cancellationToken))
        {
            (seen, latest) = await LookAsync(store, cancellationToken);
        }
        var own = new LeaseRecord(terms.Holder, Id16.Create(terms.Entropy), terms.Length, terms.HolderName);
        var number = seen.Max + 1;
        var takenAt = terms.Time.GetTimestamp();
        if (!await store.PutAsync(KeyOf(number), own.ToBytes(), cancellationToken))
        {
            throw Beaten(store);
        }
        // Who looked long ago may have put a number that others had, and dropped, meanwhile.
        var numbers = await ListAsync(store, cancellationToken);
        if (!numbers.Contains(number) || !numbers.IsSubsetOf([.. seen, number]))
        {
            await store.DeleteAsync(KeyOf(number), cancellationToken);
            throw Beaten(store);
        }
        var lease = new StoreLease(store, terms.Time, own, number, takenAt);
        await lease.DropAsync(seen, cancellationToken);
        return lease;
    }

    /// <summary>To be called before anything is changed.</summary>
    /// <exception cref="FaultException">
    /// <see cref="FaultReason.Fenced"/>: somebody has taken the store over; <see cref="FaultReason.Unavailable"/>: the lease could not be renewed in time,
    /// and may be again.
    /// </exception>
    public void Require()
    {
        if (_taker is { } taker)
        {
            throw new FaultException(FaultReason.Fenced, $"{taker} has taken over {_store.Location}: this process may not write there any more. Stop the one of both that should not run.");
        }
        var age = _time.GetElapsedTime(Interlocked.Read(ref _renewedAt));
        if (age >= _own.Length)
        {
            throw new FaultException(
                FaultReason.Unavailable, $"The lease on {_store.Location} could not be renewed for {age.TotalSeconds:0} s: until it is, nothing is written there. Check the store and the network.");
        }
    }

    /// <summary>Gives it back, so that the next owner need not wait.</summary>
    public async ValueTask DisposeAsync()
    {
        await _stopping.CancelAsync();
        await _renewing;
        if (_taker is null)
        {
            using var limit = new CancellationTokenSource(s_goodbye, _time);
            try
            {
                var last = _own with { Length = TimeSpan.Zero };
                // The number may be taken by a renewal of one's own whose answer was not waited for.
                if (await TakeNextAsync(last, limit.Token) == last)
                {
                    await DropAsync(await ListAsync(_store, limit.Token), limit.Token);
                }
            }
            catch (Exception failure) when (failure is FaultException or OperationCanceledException)
            {
                // It ends by itself.
            }
        }
        _stopping.Dispose();
    }

    private async Task RenewAsync()
    {
        await Task.Yield();
        var isRenewed = true;
        try
        {
            while (_taker is null)
            {
                await Task.Delay(_own.Length / (isRenewed ? RenewalsWithinLength : LooksWithinLength), _time, _stopping.Token);
                isRenewed = await TryRenewAsync();
            }
        }
        catch (OperationCanceledException) when (_stopping.IsCancellationRequested)
        {
            // Given back.
        }
    }

    private async Task<bool> TryRenewAsync()
    {
        var began = _time.GetTimestamp();
        using var limit = new CancellationTokenSource(_own.Length / RenewalsWithinLength, _time);
        using var both = CancellationTokenSource.CreateLinkedTokenSource(_stopping.Token, limit.Token);
        try
        {
            var top = await TakeNextAsync(_own, both.Token);
            var numbers = await ListAsync(_store, both.Token);
            // A host that slept may have put a number that others had, and dropped, meanwhile.
            if (top == _own && numbers.Max > _latest)
            {
                (_, top) = await LookAsync(_store, both.Token);
            }
            if (top is not null && top.Nonce != _own.Nonce)
            {
                _taker = top.Name;
                return false;
            }
            if (!numbers.Contains(_latest))
            {
                return false;
            }
            Interlocked.Exchange(ref _renewedAt, began);
            await DropAsync(numbers, both.Token);
            return true;
        }
        catch (Exception failure) when (failure is FaultException || (failure is OperationCanceledException && !_stopping.IsCancellationRequested))
        {
            // The next try comes soon. When the lease has run out meanwhile, who wants to write is told.
            return false;
        }
    }

    /// <summary>Adds the next object; returns it, or somebody else's that was there before.</summary>
    private async ValueTask<LeaseRecord> TakeNextAsync(LeaseRecord record, CancellationToken cancellationToken)
    {
        while (true)
        {
            var next = _latest + 1;
            if (await _store.PutAsync(KeyOf(next), record.ToBytes(), cancellationToken))
            {
                _latest = next;
                return record;
            }
            var present = LeaseRecord.Parse(await _store.ReadAllAsync(KeyOf(next), LeaseRecord.BytesMax, cancellationToken));
            if (present.Nonce != _own.Nonce)
            {
                return present;
            }
            // An earlier try of one's own came through.
            _latest = next;
        }
    }

    private async ValueTask DropAsync(IEnumerable<long> numbers, CancellationToken cancellationToken)
    {
        foreach (var number in numbers.Where(number => number < _latest))
        {
            await _store.DeleteAsync(KeyOf(number), cancellationToken);
        }
    }

    /// <summary>True: the holder has been silent for the length of its lease. False: it has given it back.</summary>
    private static async ValueTask<bool> OutwaitAsync(IObjectStore store, LeaseTerms terms, long latest, LeaseRecord holder, CancellationToken cancellationToken)
    {
        terms.OnWait?.Invoke($"{holder.Name} uses {store.Location}, or has ended without giving it back: waiting up to {holder.Length.TotalSeconds:0} s to see whether it lives.");
        var started = terms.Time.GetTimestamp();
        do
        {
            await Task.Delay(holder.Length / LooksWithinLength, terms.Time, cancellationToken);
            if ((await ListAsync(store, cancellationToken)).Max != latest)
            {
                var (_, now) = await LookAsync(store, cancellationToken);
                return now is { IsGivenBack: false } ? throw Busy(store, now) : false;
            }
        }
        while (terms.Time.GetElapsedTime(started) < holder.Length);
        return true;
    }

    /// <summary>All numbers, and the record of the highest; null: there is none.</summary>
    private static async ValueTask<(SortedSet<long> Numbers, LeaseRecord? Latest)> LookAsync(IObjectStore store, CancellationToken cancellationToken)
    {
        while (true)
        {
            var numbers = await ListAsync(store, cancellationToken);
            if (numbers.Count == 0)
            {
                return (numbers, null);
            }
            try
            {
                return (numbers, LeaseRecord.Parse(await store.ReadAllAsync(KeyOf(numbers.Max), LeaseRecord.BytesMax, cancellationToken)));
            }
            catch (FaultException moved) when (moved.Reason == FaultReason.NotFound)
            {
                // It was renewed meanwhile.
            }
        }
    }

    private static async ValueTask<SortedSet<long>> ListAsync(IObjectStore store, CancellationToken cancellationToken)
    {
        var numbers = new SortedSet<long>();
        await foreach (var found in store.ListAsync(Prefix, cancellationToken))
        {
            if (long.TryParse(found.Key.AsSpan(Prefix.Length), NumberStyles.None, CultureInfo.InvariantCulture, out var number) && found.Key == KeyOf(number))
            {
                numbers.Add(number);
            }
        }
        return numbers;
    }

    private static string KeyOf(long number) => string.Create(CultureInfo.InvariantCulture, $"{Prefix}{number:d20}");

    private static FaultException Busy(IObjectStore store, LeaseRecord holder) => new(
        FaultReason.RepositoryBusy,
        $"{holder.Name} uses {store.Location}: stop that process before opening it here. Had it died, its lease would end {holder.Length.TotalSeconds:0} s after its last renewal.");

    private static FaultException Beaten(IObjectStore store) =>
        new(FaultReason.RepositoryBusy, $"Another process takes or leaves {store.Location} at this moment: see which one should have it, then try again.");
}
