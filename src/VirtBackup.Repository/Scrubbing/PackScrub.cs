using VirtBackup.Core;
using VirtBackup.Database;
using VirtBackup.Format;
using VirtBackup.Repository.Collection;
using VirtBackup.Repository.Index;
using VirtBackup.Repository.Rebuilding;
using VirtBackup.Repository.Verification;

namespace VirtBackup.Repository.Scrubbing;

/// <summary>
/// Reads packs whole, the one with the oldest proof first, and notes in the index when. Where it was cut off, the order
/// itself says how to go on. Packs that come, go and move meanwhile do no harm. Use an instance once.
/// </summary>
/// <param name="repair">Takes a damaged pack out of use, after it was found damaged a second time; null: it is not damaged.</param>
internal sealed class PackScrub(
    IObjectStore store, IDatabase index, TimeProvider clock, ScrubOptions options, Func<PackRow, CancellationToken, ValueTask<ScrubFinding?>> repair)
{
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
        var now = clock.GetUtcNow().ToUnixTimeMilliseconds();
        // What is read by this run is not due again within it.
        var before = Math.Min(options.CheckedBeforeMs, now);
        await index.WriteAsync(connection => PackTable.ForgetProofsAfter(connection, now), cancellationToken);
        var (_, total) = await index.ReadAsync(connection => PackTable.SumCheckedBefore(connection, before), cancellationToken);
        // Every pack once in a run, also one that cannot be read.
        for (var (afterMs, afterNumber) = (-1L, 0L); options.BytesMax is not { } max || _bytes < max;)
        {
            var (ms, number) = (afterMs, afterNumber);
            var (pack, checkedMs) = await index.ReadAsync(
                connection => (PackTable.FindNextToCheck(connection, ms, number, before, out var found), found), cancellationToken);
            if (pack is null)
            {
                return true;
            }
            (afterMs, afterNumber) = (checkedMs, pack.Number);
            await ScrubAsync(pack, cancellationToken);
            options.Progress?.Report(new ScrubProgress(_packs, _bytes, Math.Max(total, _bytes), _damages));
            await _pace.SpendAsync(pack.Bytes, cancellationToken);
        }
        return false;
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
            var problem = _log.Count == 0 ? null : _log.ToList()[0].Problem;
            if (problem is not null)
            {
                (_verifier, _log) = (null, new DamageLog());
                await NoteProofsAsync(cancellationToken);
                if (await repair(pack, cancellationToken) is { } finding)
                {
                    Note(_findings, finding);
                    return;
                }
                if (await PackReader.HashAsync(store, ObjectKeys.Pack(pack.Hash), pack.Bytes, cancellationToken) == pack.Hash)
                {
                    Note(_problems, new ObjectProblem(ObjectKeys.Pack(pack.Hash), problem));
                }
            }
            _proven.Add((pack.Number, clock.GetUtcNow().ToUnixTimeMilliseconds()));
            _bytesProven += pack.Bytes;
            if (_bytesProven >= BytesPerNote || _proven.Count == PacksPerNote)
            {
                await NoteProofsAsync(cancellationToken);
            }
        }
        catch (FaultException fault) when (IncompleteWalk.IsDamage(fault) || fault.Reason is FaultReason.Unavailable or FaultReason.Denied or FaultReason.DeviceFull)
        {
            (_verifier, _log) = (null, new DamageLog());
            Note(_problems, new ObjectProblem(ObjectKeys.Pack(pack.Hash), fault.Message));
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
                    PackTable.SetChecked(connection, pack, ms);
                    UnlocatedTable.ClearDoubt(connection, pack);
                }
            },
            cancellationToken);
        _bytesProven = 0;
        _proven.Clear();
    }

    private void Note<T>(List<T> list, T item)
    {
        _damages++;
        if (list.Count < ScrubReport.FindingsMax)
        {
            list.Add(item);
        }
    }
}
