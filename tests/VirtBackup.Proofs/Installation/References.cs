using VirtBackup.Core;
using VirtBackup.Format.Manifests;
using VirtBackup.Format.Maps;
using VirtBackup.Format.Records;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.Installation;

/// <summary>
/// Counts references as FORMAT.md and nothing else has them: from every manifest, visible or in the trash, down through the
/// nodes as they lie in the packs. A count is that of distinct nodes that name the object, and of points that have it as a root.
/// </summary>
internal sealed class References
{
    private readonly Census _census;
    private readonly Dictionary<(RecordKind Kind, Id32 Id), long> _counts = [];

    private References(Census census) => _census = census;

    public static References Of(Census census)
    {
        var references = new References(census);
        foreach (var manifest in census.Points.Values.Concat(census.Forgotten.Values))
        {
            references.Add(manifest);
        }
        return references;
    }

    public bool Need(RecordKind kind, Id32 id) => _counts.ContainsKey((kind, id));

    /// <summary>Proves that an index counts every reference, by its dump.</summary>
    /// <param name="dump">Lines of the index's dump.</param>
    /// <param name="exactly">Nothing that is under way, or was given up, may refer to anything.</param>
    /// <exception cref="RefutedException">It counts too little, or more than there is.</exception>
    public void RequireCounted(IEnumerable<string> dump, bool exactly)
    {
        var counted = new Dictionary<(RecordKind, Id32), long>();
        foreach (var line in dump.Where(line => line.StartsWith("object ", StringComparison.Ordinal)))
        {
            var parts = line.Split(' ');
            var count = long.Parse(parts.First(part => part.StartsWith("count=", StringComparison.Ordinal)).AsSpan("count=".Length));
            var key = (Enum.Parse<RecordKind>(parts[1]), Id32.Parse(parts[2]));
            if (counted.TryGetValue(key, out var other) && other != count)
            {
                throw new RefutedException($"The index counts {count} and {other} references to the same {parts[1]} object {parts[2]}.");
            }
            counted[key] = count;
        }
        foreach (var (key, count) in _counts)
        {
            var found = counted.GetValueOrDefault(key, -1);
            if (found < count || (exactly && found > count))
            {
                throw new RefutedException($"The index counts {found} references to the {key.Kind} object {key.Id}, and there are {count}.");
            }
        }
        foreach (var ((kind, id), count) in counted)
        {
            if (exactly && !Need(kind, id))
            {
                throw new RefutedException($"The index still has the {kind} object {id}, with {count} references, and nothing needs it.");
            }
        }
    }

    private void Add(Manifest manifest)
    {
        var open = new Stack<Id32>();
        foreach (var root in manifest.Head.Streams.Select(stream => stream.Root).Where(root => !root.IsZero).Distinct())
        {
            Count(RecordKind.Map, root, open);
        }
        while (open.TryPop(out var id))
        {
            if (_census.Find(RecordKind.Map, id, Id16.Empty) is not [var copy, ..])
            {
                throw new RefutedException($"Point {manifest.Head.Point} needs the map node {id}, which is not stored.");
            }
            var node = copy.Bytes[RecordHeader.Size..];
            var isLeaf = MapNodeHead.Parse(node.Span).Kind == MapNodeKind.Leaf;
            foreach (var child in (isLeaf ? ChunksOf(node) : NodesOf(node)).Where(child => !child.IsZero).Distinct())
            {
                Count(isLeaf ? RecordKind.Data : RecordKind.Map, child, open);
            }
        }
    }

    private void Count(RecordKind kind, Id32 id, Stack<Id32> open)
    {
        var count = _counts.GetValueOrDefault((kind, id));
        _counts[(kind, id)] = count + 1;
        if (count == 0 && kind == RecordKind.Map)
        {
            open.Push(id);
        }
    }

    private static IEnumerable<Id32> ChunksOf(ReadOnlyMemory<byte> node)
    {
        var leaf = MapLeaf.Parse(node);
        for (var i = 0; i < leaf.Count; i++)
        {
            yield return leaf.IdAt(i);
        }
    }

    private static IEnumerable<Id32> NodesOf(ReadOnlyMemory<byte> node)
    {
        var inner = MapInner.Parse(node);
        for (var i = 0; i < inner.Count; i++)
        {
            yield return inner[i];
        }
    }
}
