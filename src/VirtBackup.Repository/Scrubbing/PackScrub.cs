using VirtBackup.Core;
using VirtBackup.Database;
using VirtBackup.Format;
using VirtBackup.Format.Records;
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
/// <param name="repair">Looks at suspected packs again, and takes what is damaged out of use.</param>
internal sealed class PackScrub(
    IObjectStore store, IDatabase index, TimeProvider clock, ScrubOptions options, Func<IReadOnlyList<Suspect>, CancellationToken, ValueTask<IReadOnlyList<SuspectResult>>> repair)
{
    /// <summary>A pack that cannot be read for so long is in doubt: devices fail so, and transient trouble is over by then.</summary>
    private static readonly TimeSpan UnreadableFor = TimeSpan.FromHours(24);

    /// <summary>Packs that are repaired together, and their records.</summary>
    private const int SuspectsMax = 16;
    private const int SuspectRecordsMax = 64 << 10;

    /// <summary>Proofs that are written down together.</summary>
    private const int PacksPerNote = 64;
    private const long BytesPerNote = 256 << 20;

    private readonly List<(Suspect Suspect, string Problem)> _suspects = [];
    // They have lost their proof, and are the next to be read: in the next run.
    private readonly HashSet<long> _unproven = [];
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

    /// <summary>Told when a pack that was in doubt is sound.</summary>
    public Action DoubtCleared { get; init; } = static () => { };

    private long NowMs => clock.GetUtcNow().ToUnixTimeMilliseconds();

    public async ValueTask<ScrubReport> RunAsync(CancellationToken cancellationToken)
    {
        try
        {
            var isDone = await ReadAllDueAsync(cancellationToken);
            await RepairAsync(cancellationToken);
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
        foreach (var key in options.First)
        {
            if (ObjectKeys.TryParsePack(key, out var hash) && await index.ReadAsync(connection => PackTable.Find(connection, hash), cancellationToken) is { State: PackState.Live } pack)
            {
                await ScrubAsync(pack, cancellationToken);
            }
        }
        await RepairAsync(cancellationToken);
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
            // Of map packs, all nodes are held.
            if (_suspects.Count == SuspectsMax || _suspects.Sum(static row => row.Suspect.Pack.Records) >= SuspectRecordsMax || _suspects.Exists(static row => row.Suspect.Pack.Kind == RecordKind.Map))
            {
                await RepairAsync(cancellationToken);
            }
            options.Progress?.Report(new ScrubProgress(_packs, _bytes, Math.Max(total, _bytes), _damages));
            await _pace.SpendAsync(pack.Bytes, cancellationToken);
        }
        return false;
    }

    private async ValueTask<PackRow?> NextAsync(Cursor cursor, CancellationToken cancellationToken)
    {
        while (true)
        {
            var (pack, checkedMs) = await index.ReadAsync(
                connection => (PackTable.FindNextToCheck(connection, cursor.AfterMs, cursor.AfterNumber, cursor.BeforeMs, out var found), found), cancellationToken);
            if (pack is null)
            {
                return null;
            }
            (cursor.AfterMs, cursor.AfterNumber) = (checkedMs, pack.Number);
            if (!_unproven.Contains(pack.Number))
            {
                cursor.Bytes += pack.Bytes;
                return pack;
            }
        }
    }

    private async ValueTask ScrubAsync(PackRow pack, CancellationToken cancellationToken)
    {
        try
        {
            _verifier ??= new PackVerifier(store, index, _log, new PackDamage());
            var read = _verifier.Bytes;
            await _verifier.VerifyAsync(pack.Number, pack.Hash, pack.Bytes, cancellationToken);
            _packs++;
            _bytes += _verifier.Bytes - read;
        }
        catch (FaultException fault) when (StoreHealth.IsDamage(fault) || StoreHealth.IsUnreadable(fault))
        {
            (_verifier, _log) = (null, new DamageLog());
            // When the store is gone, no pack is to blame.
            await store.RequireReadableAsync(cancellationToken);
            await DoubtAsync(pack, fault, cancellationToken);
            return;
        }
        if (_log.Count == 0)
        {
            await ProveAsync(pack, cancellationToken);
            return;
        }
        _suspects.Add((new Suspect(pack, IsUnreadable: false), _log.ToList()[0].Problem));
        (_verifier, _log) = (null, new DamageLog());
    }

    /// <summary>The pack cannot be read. Once that has lasted, nothing new may rely on it.</summary>
    private async ValueTask DoubtAsync(PackRow pack, FaultException fault, CancellationToken cancellationToken)
    {
        var now = NowMs;
        _unproven.Add(pack.Number);
        if (StoreHealth.IsUnreadable(fault)
            && now - await index.WriteAsync(connection => PackTable.NoteUnreadable(connection, pack.Number, now), cancellationToken) >= UnreadableFor.TotalMilliseconds)
        {
            _suspects.Add((new Suspect(pack, IsUnreadable: true), fault.Message));
        }
        else
        {
            Note(_problems, new ObjectProblem(ObjectKeys.Pack(pack.Hash), fault.Message));
        }
    }

    private async ValueTask ProveAsync(PackRow pack, CancellationToken cancellationToken)
    {
        _proven.Add((pack.Number, NowMs));
        _bytesProven += pack.Bytes;
        if (_bytesProven >= BytesPerNote || _proven.Count == PacksPerNote)
        {
            await NoteProofsAsync(cancellationToken);
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
                    if (UnlocatedTable.ClearDoubt(connection, pack))
                    {
                        DoubtCleared();
                    }
                }
            },
            cancellationToken);
        _bytesProven = 0;
        _proven.Clear();
    }

    private async ValueTask RepairAsync(CancellationToken cancellationToken)
    {
        if (_suspects.Count == 0)
        {
            return;
        }
        await NoteProofsAsync(cancellationToken);
        var results = await repair([.. _suspects.Select(static row => row.Suspect)], cancellationToken);
        for (var i = 0; i < results.Count; i++)
        {
            if (results[i].Finding is { } finding)
            {
                Note(_findings, finding);
            }
            else if (results[i].Fault is { } fault)
            {
                Note(_problems, new ObjectProblem(ObjectKeys.Pack(_suspects[i].Suspect.Pack.Hash), fault.Message));
            }
            else
            {
                await AcquitAsync(_suspects[i].Suspect, _suspects[i].Problem, cancellationToken);
            }
        }
        _suspects.Clear();
    }

    /// <summary>The second look found nothing: the pack is gone, at odds with the index, or was read wrong the first time.</summary>
    private async ValueTask AcquitAsync(Suspect suspect, string problem, CancellationToken cancellationToken)
    {
        var (pack, key) = (suspect.Pack, ObjectKeys.Pack(suspect.Pack.Hash));
        if (await index.ReadAsync(connection => PackTable.Find(connection, pack.Number), cancellationToken) is not { State: PackState.Live })
        {
            return;
        }
        try
        {
            if (await PackReader.HashAsync(store, key, pack.Bytes, cancellationToken) == pack.Hash)
            {
                await ProveAsync(pack, cancellationToken);
            }
            else
            {
                problem = "The pack reads differently each time: check its device.";
                _unproven.Add(pack.Number);
                await index.WriteAsync(connection => PackTable.SetChecked(connection, pack.Number, 0), cancellationToken);
            }
        }
        catch (FaultException fault) when (StoreHealth.IsDamage(fault) || StoreHealth.IsUnreadable(fault))
        {
            await store.RequireReadableAsync(cancellationToken);
            problem = fault.Message;
        }
        Note(_problems, new ObjectProblem(key, problem));
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
