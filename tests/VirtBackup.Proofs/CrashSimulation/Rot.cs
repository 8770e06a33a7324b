using VirtBackup.Core;
using VirtBackup.Format.Records;
using VirtBackup.Proofs.FlipBytes;
using VirtBackup.Proofs.Installation;
using VirtBackup.Repository.Scrubbing;
using VirtBackup.Testing.Stores;

namespace VirtBackup.Proofs.CrashSimulation;

/// <summary>What the device does to one pack, and what follows from it by the maps alone.</summary>
internal sealed class Rot
{
    private readonly HashSet<(RecordKind Kind, Id32 Id, Id16 Scope)> _lost;
    private readonly IReadOnlySet<(Id32 Id, string PackKey)> _dead;

    private Rot(string key, byte[] original, IEnumerable<StoredRecord> lost, IReadOnlySet<(Id32 Id, string PackKey)> dead, string what)
    {
        (Key, Original, _dead, What) = (key, original, dead, what);
        _lost = [.. lost.Select(record => (record.Entry.Header.Kind, record.Entry.Header.Id, record.Entry.Header.Scope))];
    }

    public string Key { get; }

    /// <summary>What the pack held.</summary>
    public byte[] Original { get; }

    public string What { get; }

    /// <summary>A full backup of what the points hold heals it: chunks are named by their content, nodes by more than that.</summary>
    public bool IsOfChunks => _lost.All(name => name.Kind == RecordKind.Data);

    /// <summary>Loses a pack that points need, or flips a bit of it.</summary>
    /// <param name="located">Where the index says that objects lie. Copies of which it says nothing are dead: they wait to be deleted.</param>
    /// <returns>Null: no point needs anything.</returns>
    public static Rot? Plant(Random random, SimulatedStore store, Census census, IReadOnlySet<(Id32 Id, string PackKey)> located, bool mayLose)
    {
        var needed = References.Of(census);
        var packs = census.Packs.Where(pack => pack.Value.Exists(record => needed.Need(record.Entry.Header.Kind, record.Entry.Header.Id)))
            .OrderBy(pack => pack.Key, StringComparer.Ordinal).ToList();
        if (packs.Count == 0)
        {
            return null;
        }
        var (key, records) = packs[random.Next(packs.Count)];
        var original = census.Objects[key];
        var dead = records.SelectMany(record => census.Find(record.Entry.Header.Kind, record.Entry.Header.Id, record.Entry.Header.Scope))
            .Select(copy => (copy.Entry.Header.Id, copy.PackKey)).Where(copy => !located.Contains(copy)).ToHashSet();
        if (mayLose && random.Next(4) == 0)
        {
            store.Rot(key, static _ => null);
            return new Rot(key, original, records, dead, $"the pack {key} is lost");
        }
        var at = random.Next(original.Length);
        var bit = random.Next(8);
        store.Rot(key, bytes =>
        {
            bytes[at] ^= (byte)(1 << bit);
            return bytes;
        });
        return new Rot(
            key, original, records.Where(record => at >= record.Entry.Offset && at < record.Entry.Offset + record.Bytes.Length), dead, $"bit {bit} of byte {at} of the pack {key} is flipped");
    }

    /// <summary>What every point lacks that was not stored once more meanwhile.</summary>
    /// <param name="census">Taken as if the pack were what it was.</param>
    /// <param name="packs">Those in use: who waits to be deleted counts for nothing.</param>
    public Losses LossesOf(Census census, IReadOnlySet<string> packs)
    {
        var losses = new Losses();
        foreach (var manifest in census.Points.Values.Concat(census.Forgotten.Values))
        {
            var (entries, nodes) = census.Walk(manifest);
            var lostNodes = nodes.Where(node => IsLost(census, packs, RecordKind.Map, node.Id, Id16.Empty)).ToList();
            lostNodes.ForEach(node => losses.Add(manifest.Head.Point, node.Stream, node.Range));
            foreach (var placed in entries.Where(placed => !placed.Entry.IsZero && IsLost(census, packs, RecordKind.Data, placed.Entry.Id, manifest.Head.Scope)))
            {
                losses.Add(manifest.Head.Point, placed.Stream, new ByteRange(placed.Offset, placed.Entry.Length));
            }
        }
        return losses;
    }

    private bool IsLost(Census census, IReadOnlySet<string> packs, RecordKind kind, Id32 id, Id16 scope) =>
        _lost.Contains((kind, id, scope))
            && census.Find(kind, id, scope).All(copy => copy.PackKey == Key || !packs.Contains(copy.PackKey) || _dead.Contains((id, copy.PackKey)));
}

/// <summary>Another repository that has what a census found, while it can be reached. A peer is asked before it.</summary>
internal sealed class CensusSource : IRecordSource
{
    public string Name => "another place";

    /// <summary>Null: it cannot be reached.</summary>
    public Census? Census { get; set; }

    /// <summary>Finds a record at a peer; null: there is none, or the answer is null.</summary>
    public Func<RecordKind, Id32, Id16, ValueTask<byte[]?>>? Peer { get; set; }

    public async ValueTask<ReadOnlyMemory<byte>?> FetchAsync(RecordKind kind, Id32 id, Id16 scope, CancellationToken cancellationToken)
    {
        var census = Census ?? throw new FaultException(FaultReason.Unavailable, "The other place cannot be reached.");
        return Peer is { } peer && await peer(kind, id, scope) is { } record ? record : Found(census, kind, id, scope);
    }

    private static ReadOnlyMemory<byte>? Found(Census census, RecordKind kind, Id32 id, Id16 scope) => census.Find(kind, id, scope) is [var copy, ..] ? copy.Bytes : null;
}
