using VirtBackup.Core;
using VirtBackup.Database;
using VirtBackup.Format;
using VirtBackup.Repository.Collection;
using VirtBackup.Repository.Index;
using VirtBackup.Repository.Rebuilding;
using VirtBackup.Repository.Verification;

namespace VirtBackup.Repository.Scrubbing;

/// <summary>
/// Reads packs whole, the one with the oldest proof first, and notes in the index when; what was never read since it was
/// stored gets every other turn, so that neither waits for the other. Where it was cut off, the order itself says how to go
/// on. Packs that come, go and move meanwhile do no harm. Use an instance once.
/// </summary>
/// <param name="store">Where the packs are.</param>
/// <param name="index">Which there are.</param>
/// <param name="clock">For proofs.</param>
/// <param name="options">How much, and how fast.</param>
/// <param name="repair">
/// Takes a damaged pack out of use, after it was found damaged a second time, or, if so told, one that cannot be read; null: it
/// is not damaged.
/// </param>
internal sealed class PackScrub(
    IObjectStore store, IDatabase index, TimeProvider clock, ScrubOptions options, Func<PackRow, bool, CancellationToken, ValueTask<ScrubFinding?>> repair)
{
    /// <summary>A pack that cannot be read for so long is in doubt: devices fail so, and transient trouble is over by then.</summary>
    private static readonly TimeSpan UnreadableFor = TimeSpan.FromHours(24);

    private const int PacksPerNote = 64;
    private const long BytesPerNote = 256 << 20;

    private readonly List<(long Pack, long Ms)> _proven = [];
    private readonly Pace _pace = new(clock, options.BytesPerSecond);
    private readonly List<ScrubFinding> _findings = [];
    private readonly List<ObjectProblem> _problems = [];
    private DamageLog _log = new();
    private PackVerifier? _verifier;
    private long _bytesProven;
    private long _packs;
    private long _bytes;
    private long _damages;

    private long NowMs => clock.GetUtcNow().ToUnixTimeMilliseconds();

    public async ValueTask<ScrubReport> RunAsync(CancellationToken cancellationToken)
    {
        try
        {
            var isDone = await ReadAllDueAsync(cancellationToken);
            await NoteProofsAsync(cancellationToken);
            return new ScrubReport { Packs = _packs, Bytes = _bytes, Findings = _findings, Problems = _problems, DamageCount = _damages, IsDone = isDone };
        }
        catch (OperationCanceledException)
        {
            await NoteProofsAsync(CancellationToken.None);
            throw;
        }
    }

    private async ValueTask<bool> ReadAllDueAsync(CancellationToken cancellationToken)
    {
        var now = NowMs;
        // What is read by this run is not due again within it.
        var before = Math.Min(options.CheckedBeforeMs, now);
        await index.WriteAsync(connection => PackTable.ForgetProofsAfter(connection, now), cancellationToken);
        var (_, total) = await index.ReadAsync(connection => PackTable.SumCheckedBefore(connection, before), cancellationToken);
        // Every pack once in a run, also one that cannot be read.
        var (never, proven) = (new Cursor(-1, 0, Math.Min(before, 1)), new Cursor(0, long.MaxValue, before));
        while (options.BytesMax is not { } max || _bytes < max)
        {
            var (first, second) = never.Bytes <= proven.Bytes ? (never, proven) : (proven, never);
            if ((await NextAsync(first, cancellationToken) ?? await NextAsync(second, cancellationToken)) is not { } pack)
            {
                return true;
            }
            await ScrubAsync(pack, cancellationToken);
            options.Progress?.Report(new ScrubProgress(_packs, _bytes, Math.Max(total, _bytes), _damages));
            await _pace.SpendAsync(pack.Bytes, cancellationToken);
        }
        return false;
    }

    private async ValueTask<PackRow?> NextAsync(Cursor cursor, CancellationToken cancellationToken)
    {
        var (pack, checkedMs) = await index.ReadAsync(
            connection => (PackTable.FindNextToCheck(connection, cursor.AfterMs, cursor.AfterNumber, cursor.BeforeMs, out var found), found), cancellationToken);
        if (pack is not null)
        {
            (cursor.AfterMs, cursor.AfterNumber) = (checkedMs, pack.Number);
            cursor.Bytes += pack.Bytes;
        }
        return pack;
    }

    private async ValueTask ScrubAsync(PackRow pack, CancellationToken cancellationToken)
    {
        bool isProven;
        try
        {
            isProven = await ReadAsync(pack, cancellationToken);
        }
        catch (FaultException fault) when (IncompleteWalk.IsDamage(fault) || StoreHealth.IsUnreadable(fault))
        {
            (_verifier, _log) = (null, new DamageLog());
            // When the store is gone, no pack is to blame.
            await store.RequireReadableAsync(cancellationToken);
            await DoubtAsync(pack, fault, cancellationToken);
            return;
        }
        if (isProven)
        {
            _proven.Add((pack.Number, NowMs));
            _bytesProven += pack.Bytes;
            if (_bytesProven >= BytesPerNote || _proven.Count == PacksPerNote)
            {
                await NoteProofsAsync(cancellationToken);
            }
        }
    }

    /// <summary>Writes down what was found sound: not after every pack, because each time waits for the device.</summary>
    private async ValueTask NoteProofsAsync(CancellationToken cancellationToken)
    {
        if (_proven.Count == 0)
        {
            return;
        }
        await index.WriteAsync(
            connection =>
            {
                foreach (var (pack, ms) in _proven)
                {
                    PackTable.SetProven(connection, pack, ms);
                    UnlocatedTable.ClearDoubt(connection, pack);
                }
            },
            cancellationToken);
        _bytesProven = 0;
        _proven.Clear();
    }

    /// <summary>Reads a pack; false: it is not proven, and that is noted.</summary>
    private async ValueTask<bool> ReadAsync(PackRow pack, CancellationToken cancellationToken)
    {
        var key = ObjectKeys.Pack(pack.Hash);
        _verifier ??= new PackVerifier(store, index, _log, new PackDamage());
        var read = _verifier.Bytes;
        await _verifier.VerifyAsync(pack.Number, pack.Hash, pack.Bytes, cancellationToken);
        _packs++;
        _bytes += _verifier.Bytes - read;
        if (_log.Count == 0)
        {
            return true;
        }
        var problem = _log.ToList()[0].Problem;
        (_verifier, _log) = (null, new DamageLog());
        await NoteProofsAsync(cancellationToken);
        if (await repair(pack, false, cancellationToken) is { } finding)
        {
            Note(_findings, finding);
            return false;
        }
        if (await index.ReadAsync(connection => PackTable.Find(connection, pack.Number), cancellationToken) is not { State: PackState.Live })
        {
            return false;
        }
        // At odds with the index, or read wrong the first time.
        var isSame = await PackReader.HashAsync(store, key, pack.Bytes, cancellationToken) == pack.Hash;
        Note(_problems, new ObjectProblem(key, isSame ? problem : "The pack reads differently each time: check its device."));
        return isSame;
    }

    /// <summary>The pack cannot be read. Once that has lasted, nothing new may rely on it.</summary>
    private async ValueTask DoubtAsync(PackRow pack, FaultException fault, CancellationToken cancellationToken)
    {
        var now = NowMs;
        var problem = fault.Message;
        if (StoreHealth.IsUnreadable(fault)
            && now - await index.WriteAsync(connection => PackTable.NoteUnreadable(connection, pack.Number, now), cancellationToken) >= UnreadableFor.TotalMilliseconds)
        {
            try
            {
                await NoteProofsAsync(cancellationToken);
                if (await repair(pack, true, cancellationToken) is { } finding)
                {
                    Note(_findings, finding);
                    return;
                }
            }
            catch (FaultException failure) when (IncompleteWalk.IsDamage(failure) || StoreHealth.IsUnreadable(failure))
            {
                await store.RequireReadableAsync(cancellationToken);
                problem = failure.Message;
            }
        }
        Note(_problems, new ObjectProblem(ObjectKeys.Pack(pack.Hash), problem));
    }

    private void Note<T>(List<T> list, T item)
    {
        _damages++;
        if (list.Count < ScrubReport.FindingsMax)
        {
            list.Add(item);
        }
    }

    /// <summary>How far the packs of one kind of proof are read.</summary>
    private sealed class Cursor(long afterMs, long afterNumber, long beforeMs)
    {
        public long AfterMs { get; set; } = afterMs;

        public long AfterNumber { get; set; } = afterNumber;

        public long BeforeMs => beforeMs;

        public long Bytes { get; set; }
    }
}
