using System.Runtime.CompilerServices;
using VirtBackup.Core;
using VirtBackup.Database;
using VirtBackup.Format;
using VirtBackup.Format.Packs;
using VirtBackup.Format.Records;
using VirtBackup.Repository.Index;

namespace VirtBackup.Repository.Rebuilding;

/// <summary>
/// Reads the tables of contents of all packs into an index without packs: packs get their rows, records wait in the rebuild's
/// space. Damaged packs are told and left out. Runs once.
/// </summary>
internal sealed class PackSurvey(RebuildSpace space, IObjectStore store, IDatabase index, long generation, TimeProvider clock, RebuildNews news)
{
    private const int PacksPerTransaction = 1024;
    private const int FootersAhead = 8;

    private readonly List<PackSummary> _unwritten = [];

    public async ValueTask RunAsync(CancellationToken cancellationToken)
    {
        var reads = ListAsync(cancellationToken).ReadAheadAsync(pack => ReadAsync(pack.Info, pack.Hash, cancellationToken), FootersAhead, cancellationToken);
        await foreach (var (info, hash, footer, problem) in reads)
        {
            if (footer is null)
            {
                news.Report(info.Key, problem!);
                continue;
            }
            Take(hash, info.Length, footer);
            if (_unwritten.Count >= PacksPerTransaction)
            {
                await WriteAsync(cancellationToken);
            }
        }
        await WriteAsync(cancellationToken);
    }

    private async IAsyncEnumerable<(ObjectInfo Info, Id32 Hash)> ListAsync([EnumeratorCancellation] CancellationToken cancellationToken)
    {
        await foreach (var info in store.ListAsync(ObjectKeys.PacksPrefix, cancellationToken))
        {
            if (ObjectKeys.TryParsePack(info.Key, out var hash))
            {
                yield return (info, hash);
            }
            else
            {
                news.Report(info.Key, "It is not named as a pack.");
            }
        }
    }

    private async ValueTask<(ObjectInfo Info, Id32 Hash, PackFooter? Footer, string? Problem)> ReadAsync(ObjectInfo info, Id32 hash, CancellationToken cancellationToken)
    {
        try
        {
            return (info, hash, await PackReader.ReadFooterAsync(store, info, cancellationToken), null);
        }
        catch (FaultException fault) when (StoreHealth.IsDamage(fault))
        {
            return (info, hash, null, fault.Message);
        }
    }

    private void Take(Id32 hash, long bytes, PackFooter footer)
    {
        var pack = space.Packs.Count + _unwritten.Count;
        var (scopeId, scope) = (default(Id16), -1);
        long raw = 0;
        foreach (ref readonly var entry in footer.Entries)
        {
            var header = entry.Header;
            if (scope < 0 || header.Scope != scopeId)
            {
                (scopeId, scope) = (header.Scope, space.ScopeOf(header.Scope));
            }
            raw += header.RawLength;
            space.Records.Add(RebuildSpace.BucketOf(header.Id), new StoredRecord
            {
                Id = header.Id, Pack = pack, Scope = scope, Position = entry.Offset, SealedLength = header.SealedLength, RawLength = header.RawLength,
                IdGeneration = header.IdGeneration, Kind = header.Kind, Codec = header.Codec,
            });
        }
        if (footer.Kind == RecordKind.Map)
        {
            TakeNodes(pack, footer.Entries);
        }
        _unwritten.Add(new PackSummary(hash, footer.Kind, footer.Entries.Length, bytes, raw));
        news.AddPack(footer.Entries.Length);
    }

    /// <summary>In the order in which they lie in the pack, so that a sweep reads it from its begin to its end.</summary>
    private void TakeNodes(int pack, ReadOnlySpan<PackEntry> entries)
    {
        var inOrder = entries.ToArray();
        Array.Sort(inOrder, static (left, right) => left.Offset.CompareTo(right.Offset));
        foreach (ref readonly var entry in inOrder.AsSpan())
        {
            space.Trees.Nodes.Add(entry.Header.Id, pack, entry.Offset, entry.Header.SealedLength);
        }
    }

    private async ValueTask WriteAsync(CancellationToken cancellationToken)
    {
        if (_unwritten.Count == 0)
        {
            return;
        }
        var now = clock.GetUtcNow().ToUnixTimeMilliseconds();
        var numbers = await index.WriteAsync(connection => _unwritten.ConvertAll(pack => PackTable.Add(connection, pack, generation, now)), cancellationToken);
        for (var i = 0; i < numbers.Count; i++)
        {
            space.Packs.Add(new RebuiltPack(_unwritten[i].Hash, numbers[i]));
        }
        _unwritten.Clear();
        news.Tell();
    }
}
