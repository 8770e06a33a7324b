using System.Buffers;
using VirtBackup.Core;
using VirtBackup.Database;
using VirtBackup.Format;
using VirtBackup.Format.Maps;
using VirtBackup.Repository.Index;
using VirtBackup.Repository.Verification;

namespace VirtBackup.Repository.Scrubbing;

/// <summary>
/// Opens every doubtful chunk of a pack that a point names, and sorts it by what comes out. What is left could not be tried:
/// no point names it, a map node above it cannot be read, or no key or map entry of those that name it opens. Use an instance
/// once.
/// </summary>
internal sealed class ChunkTrial(IObjectStore store, IDatabase index, PackRow pack, IChunkOpener opener)
{
    private readonly PackRecordReader _reader = new(store, pack);
    // A damaged key object must not make a sound chunk a damaged one.
    private readonly KeyObjectVerifier _keys = new(store, new DamageLog());
    private readonly Dictionary<(Id32 Id, Id16 Scope), IndexedRecord> _untried = [];
    private readonly HashSet<(Id16 Vm, Id16 Scope, MapEntry Entry)> _inVain = [];

    public async ValueTask RunAsync(PackAutopsy autopsy, CancellationToken cancellationToken)
    {
        autopsy.Doubtful.ForEach(record => _untried.Add((record.Header.Id, record.Header.Scope), record));
        var walk = new IncompleteWalk(store, index) { Leaf = (at, leaf, token) => TryAsync(at, leaf, autopsy, token) };
        foreach (var (point, isForgotten) in await index.ReadAsync(PointTable.ListAll, cancellationToken))
        {
            if (_untried.Count > 0)
            {
                await walk.WalkAsync(point, isForgotten, cancellationToken);
            }
        }
        autopsy.Doubtful.RemoveAll(record => !_untried.ContainsKey((record.Header.Id, record.Header.Scope)));
    }

    private async ValueTask TryAsync(WalkPlace at, MapLeaf leaf, PackAutopsy autopsy, CancellationToken cancellationToken)
    {
        for (var i = 0; i < leaf.Count && _untried.Count > 0 && opener.Opens(at.Head.Repository); i++)
        {
            var name = (leaf.IdAt(i), at.Head.Scope);
            if (!_untried.TryGetValue(name, out var record) || record.Header.RawLength != leaf.LengthAt(i) || _inVain.Contains((at.Head.Vm, at.Head.Scope, leaf[i])))
            {
                continue;
            }
            if (await TryAsync(at, leaf[i], record, cancellationToken) is not { } verdict)
            {
                // Another machine may name the chunk, too.
                _inVain.Add((at.Head.Vm, at.Head.Scope, leaf[i]));
                continue;
            }
            _untried.Remove(name);
            switch (verdict.Fate)
            {
                case Fate.Sound:
                    autopsy.Sound.Add(verdict.Record);
                    break;
                case Fate.Lost:
                    autopsy.Lost.Add(record);
                    break;
                default:
                    autopsy.Unreadable.Add(record);
                    break;
            }
        }
    }

    /// <summary>Null: this entry does not tell.</summary>
    private async ValueTask<Verdict?> TryAsync(WalkPlace at, MapEntry entry, IndexedRecord record, CancellationToken cancellationToken)
    {
        if (!await HasSoundKeyAsync(at, entry, cancellationToken))
        {
            return null;
        }
        var buffer = ArrayPool<byte>.Shared.Rent(record.Header.RecordLength);
        try
        {
            var bytes = buffer.AsMemory(0, record.Header.RecordLength);
            var hash = await _reader.TryReadAsync(record, bytes, cancellationToken) ? PackRecordReader.HashOf(bytes.Span) : (Id32?)null;
            try
            {
                if (hash is { } proven)
                {
                    await opener.OpenAsync(at.Head.Vm, entry, bytes, cancellationToken);
                    return new Verdict(Fate.Sound, new ProvenRecord(record, proven));
                }
            }
            catch (FaultException fault) when (fault.Reason is FaultReason.Corrupt or FaultReason.Malformed or FaultReason.Unsupported)
            {
                // Not what was stored.
            }
            catch (FaultException fault) when (fault.Reason is FaultReason.NotFound or FaultReason.Denied or FaultReason.Unavailable)
            {
                await store.RequireReadableAsync(cancellationToken);
                return null;
            }
            await _reader.RequireSameAsync(record, hash, bytes, cancellationToken);
            return new Verdict(Fate.Lost, default);
        }
        catch (FaultException fault) when (StoreHealth.IsUnreadable(fault))
        {
            await store.RequireReadableAsync(cancellationToken);
            return new Verdict(Fate.Unreadable, default);
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(buffer);
        }
    }

    private async ValueTask<bool> HasSoundKeyAsync(WalkPlace at, MapEntry entry, CancellationToken cancellationToken)
    {
        try
        {
            return await _keys.FindDamageAsync(at.Head.Repository, at.Head.Vm, entry.EpochId, cancellationToken) is null;
        }
        catch (FaultException fault) when (StoreHealth.IsUnreadable(fault))
        {
            await store.RequireReadableAsync(cancellationToken);
            return false;
        }
    }

    private enum Fate
    {
        Sound,
        Lost,
        Unreadable,
    }

    private readonly record struct Verdict(Fate Fate, ProvenRecord Record);
}
