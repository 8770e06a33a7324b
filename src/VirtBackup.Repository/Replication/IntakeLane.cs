using VirtBackup.Core;
using VirtBackup.Repository.Ingest;

namespace VirtBackup.Repository.Replication;

/// <summary>
/// A lane that several calls feed with whole records, and the ids of all that was asked for and is not durable yet, so that nothing is asked
/// for twice. Safe for concurrent use.
/// </summary>
/// <param name="lane">Its own from now on.</param>
/// <param name="packsFirstAlone">
/// The first record gets a pack of its own: what comes again in the order in which it came before would make a pack of the same
/// name, and if that one is damaged it is in the way.
/// </param>
internal sealed class IntakeLane(IngestLane lane, bool packsFirstAlone) : IDisposable
{
    private bool _hasFirst;
    private readonly Gate _appending = new();
    private readonly Lock _sync = new();
    private readonly HashSet<Id32> _underWay = [];
    private readonly Queue<(long End, Id32 Id)> _appended = new();

    /// <summary>Notes that the object is about to be asked for; false: it is under way already.</summary>
    public bool TryAsk(Id32 id)
    {
        lock (_sync)
        {
            return _underWay.Add(id);
        }
    }

    /// <summary>The object was not asked for after all.</summary>
    public void GiveUp(Id32 id)
    {
        lock (_sync)
        {
            _underWay.Remove(id);
        }
    }

    /// <summary>
    /// Lets go of what is durable: from now on a look into the index finds it. Call it before the look, and use what the look
    /// found before the next call.
    /// </summary>
    public void Settle()
    {
        var durable = lane.DurableOffset;
        lock (_sync)
        {
            while (_appended.TryPeek(out var oldest) && oldest.End <= durable)
            {
                _underWay.Remove(_appended.Dequeue().Id);
            }
        }
    }

    /// <summary>Takes a whole record, whose bytes may be reused when the call returns.</summary>
    /// <exception cref="FaultException">The store failed, as <see cref="IngestLane.AppendAsync"/> says.</exception>
    public async ValueTask AppendAsync(ReadOnlyMemory<byte> record, Id32 id, CancellationToken cancellationToken)
    {
        using var closed = await _appending.CloseAsync(cancellationToken);
        await lane.AppendAsync(record, cancellationToken);
        if (packsFirstAlone && !_hasFirst)
        {
            await lane.FlushAsync(cancellationToken);
        }
        _hasFirst = true;
        lock (_sync)
        {
            _appended.Enqueue((lane.AppendedOffset, id));
        }
    }

    /// <summary>Makes durable what was taken.</summary>
    public async ValueTask FlushAsync(CancellationToken cancellationToken)
    {
        using var closed = await _appending.CloseAsync(cancellationToken);
        await lane.FlushAsync(cancellationToken);
    }

    public void Dispose() => _appending.Dispose();
}
