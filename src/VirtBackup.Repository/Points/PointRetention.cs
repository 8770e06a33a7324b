using VirtBackup.Core;
using VirtBackup.Database;
using VirtBackup.Format;
using VirtBackup.Format.Manifests;
using VirtBackup.Repository.Index;
using VirtBackup.Repository.Verification;

namespace VirtBackup.Repository.Points;

/// <summary>
/// Has the store's provider retain everything that locked recovery points need: the packs of their maps and chunks, keys,
/// manifest and lock, and what opens the repository. What is to be retained is noted in the index before the provider is
/// asked, so that a run can be cut off anywhere and the next one goes on, and so that no collection moves records away from
/// where they are retained. One run at a time.
/// </summary>
public sealed class PointRetention
{
    private const int NamesPerTransaction = 1024;

    // So many requests are under way at once.
    private const int RequestsMax = 16;

    private readonly IObjectStore _store;
    private readonly IDatabase _index;

    internal PointRetention(IObjectStore store, IDatabase index) => (_store, _index) = (store, index);

    /// <summary>Whether the store's provider is to retain anything at all.</summary>
    public bool IsOn => _store.Retention is not null;

    /// <summary>Makes sure that the provider can; always when it need not.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.FailedPrecondition"/>: it cannot; the message says why.</exception>
    public ValueTask RequireAsync(CancellationToken cancellationToken) => _store.Retention?.RequireAsync(cancellationToken) ?? ValueTask.CompletedTask;

    /// <summary>Objects that the provider retains beyond a time, Unix milliseconds, and those that it is still to be asked for.</summary>
    public ValueTask<(long Retained, long Open)> CountAsync(long nowMs, CancellationToken cancellationToken) =>
        _index.ReadAsync(connection => RetentionTable.Count(connection, nowMs), cancellationToken);

    /// <summary>Gives up what was to be retained until then, whether the provider ever promised it or not.</summary>
    /// <param name="nowMs">Unix milliseconds.</param>
    /// <param name="cancellationToken">Stops before the change.</param>
    public async ValueTask EndOverAsync(long nowMs, CancellationToken cancellationToken) =>
        await _index.WriteAsync(connection => RetentionTable.RemoveOver(connection, nowMs), cancellationToken);

    /// <summary>Returns when the provider retains all that the point needs; a point that is gone needs nothing.</summary>
    /// <param name="point">The point.</param>
    /// <param name="untilMs">Unix milliseconds.</param>
    /// <param name="cancellationToken">Stops it; it can be run again.</param>
    /// <returns>Objects that were not retained for so long before.</returns>
    /// <exception cref="FaultException">What the provider says; what it has promised so far is noted.</exception>
    public async ValueTask<long> RetainAsync(Id16 point, long untilMs, CancellationToken cancellationToken)
    {
        if (_store.Retention is not { } retention)
        {
            return 0;
        }
        // A collection may have moved records between the look and the note. Since the note it leaves them where they are: what a look finds
        // that has nothing new, is all.
        for (long total = 0; ;)
        {
            if (!await WantAsync(point, untilMs, cancellationToken))
            {
                return total;
            }
            var asked = await AskAsync(retention, cancellationToken);
            if (asked == 0)
            {
                return total;
            }
            total += asked;
        }
    }

    /// <summary>Whether an object must stay where it is, because its provider retains it or is about to.</summary>
    internal static async ValueTask<bool> IsRetainedAsync(IObjectStore store, IDatabase index, string key, long nowMs, CancellationToken cancellationToken)
    {
        if (store.Retention is not { } retention)
        {
            return false;
        }
        try
        {
            // An index that was made anew knows nothing.
            return await index.ReadAsync(connection => RetentionTable.IsWanted(connection, key, nowMs), cancellationToken) || await retention.FindAsync(key, cancellationToken) > nowMs;
        }
        catch (FaultException gone) when (gone.Reason == FaultReason.NotFound)
        {
            return false;
        }
    }

    /// <returns>False: there is no such point any more.</returns>
    private async ValueTask<bool> WantAsync(Id16 point, long untilMs, CancellationToken cancellationToken)
    {
        var found = await _index.ReadAsync(
            connection => PointTable.Find(connection, point) is { } visible ? (Info: visible, IsForgotten: false)
                : PointTable.FindForgotten(connection, point) is { } forgotten ? (forgotten.Info, IsForgotten: true)
                : default((RecoveryPointInfo Info, bool IsForgotten)?),
            cancellationToken);
        if (found is not var (info, isForgotten))
        {
            return false;
        }
        var key = PointKeeper.KeyOf(info, isForgotten);
        var head = Manifest.Parse(await _store.ReadAllAsync(key, Limits.ManifestBytesMax, cancellationToken)).Head;
        List<string> names = [ObjectKeys.Format, key, ObjectKeys.Agent(head.AgentKeyId)];
        foreach (var prefix in head.Epochs.Select(epoch => ObjectKeys.VmKeysOf(head.Vm, epoch)).Prepend(ObjectKeys.KeyringPrefix).Append($"{ObjectKeys.LocksPrefix}{point}/"))
        {
            await foreach (var listed in _store.ListAsync(prefix, cancellationToken))
            {
                names.Add(listed.Key);
            }
        }
        foreach (var numbers in (await new PointPacks(_store, _index).FindAsync(head, cancellationToken)).Chunk(NamesPerTransaction))
        {
            names.AddRange(await _index.ReadAsync(
                connection => numbers.Select(number => PackTable.FindHash(connection, number)).OfType<Id32>().Select(ObjectKeys.Pack).ToList(), cancellationToken));
            await NoteAsync(names, untilMs, cancellationToken);
        }
        if (names.Count > 0)
        {
            await NoteAsync(names, untilMs, cancellationToken);
        }
        return true;
    }

    private async ValueTask NoteAsync(List<string> names, long untilMs, CancellationToken cancellationToken)
    {
        await _index.WriteAsync(
            connection =>
            {
                RetentionTable.Want(connection, names, untilMs, _store.Retention is { IsFinal: true });
                return true;
            },
            cancellationToken);
        names.Clear();
    }

    private async ValueTask<long> AskAsync(IObjectRetention retention, CancellationToken cancellationToken)
    {
        for (long count = 0; ;)
        {
            var rows = await _index.ReadAsync(static connection => RetentionTable.ListOpen(connection, RequestsMax), cancellationToken);
            if (rows.Count == 0)
            {
                return count;
            }
            var isThere = await Task.WhenAll(rows.Select(row => AskAsync(retention, row, cancellationToken).AsTask()));
            await _index.WriteAsync(
                connection =>
                {
                    for (var i = 0; i < rows.Count; i++)
                    {
                        if (isThere[i])
                        {
                            RetentionTable.SetPromised(connection, rows[i]);
                        }
                        else
                        {
                            RetentionTable.Remove(connection, rows[i].Name);
                        }
                    }
                    return true;
                },
                CancellationToken.None);
            count += isThere.Count(static there => there);
        }
    }

    /// <returns>False: it went meanwhile.</returns>
    private static async ValueTask<bool> AskAsync(IObjectRetention retention, RetainedRow row, CancellationToken cancellationToken)
    {
        try
        {
            await retention.RetainAsync(row.Name, row.WantedMs, cancellationToken);
            return true;
        }
        catch (FaultException gone) when (gone.Reason == FaultReason.NotFound)
        {
            return false;
        }
    }
}
