using VirtBackup.Core;
using VirtBackup.Format;
using VirtBackup.Format.Manifests;
using VirtBackup.Format.Maps;
using VirtBackup.Format.Packs;
using VirtBackup.Format.Records;
using VirtBackup.Repository.Points;
using VirtBackup.Repository.Tests.Fixtures;

namespace VirtBackup.Repository.Tests.Collection;

/// <summary>
/// Counts references slowly and independently: from every manifest in the store, visible or forgotten, down through the
/// nodes as they lie in the packs.
/// </summary>
internal sealed class Recount
{
    private readonly Dictionary<(RecordKind, Id32), byte[]> _records = [];
    private readonly Dictionary<(RecordKind, Id32), HashSet<string>> _parents = [];

    public static async Task<Recount> TakeAsync(World world)
    {
        var recount = new Recount();
        foreach (var key in await world.KeysAsync(ObjectKeys.PacksPrefix))
        {
            var bytes = await world.Store.ReadAllAsync(key, Limits.PackBytesMax, World.Token);
            foreach (var entry in PackFooter.Parse(bytes, bytes.Length).Entries)
            {
                recount._records[(entry.Header.Kind, entry.Header.Id)] = bytes.AsSpan((int)entry.Offset + RecordHeader.Size, entry.Header.SealedLength).ToArray();
            }
        }
        foreach (var key in await world.KeysAsync(""))
        {
            if (ObjectKeys.TryParseManifest(key, out _, out _) || PointKeeper.TryParseTrash(key, out _, out _))
            {
                var bytes = await world.Store.ReadAllAsync(key, Limits.ManifestBytesMax, World.Token);
                if (AbortTombstone.IsTombstone(bytes))
                {
                    continue;
                }
                var manifest = Manifest.Parse(bytes);
                foreach (var root in manifest.Head.Streams.Select(stream => stream.Root).Where(root => !root.IsZero))
                {
                    recount.Reach(RecordKind.Map, root, $"point {manifest.Head.Point}");
                }
            }
        }
        return recount;
    }

    /// <summary>Objects that something refers to, with their counts, as the index's dump writes them.</summary>
    public IEnumerable<string> Counts() => _parents.Select(row => $"{row.Key.Item1} {row.Key.Item2} count={row.Value.Count}").Order(StringComparer.Ordinal);

    /// <summary>The same from the index.</summary>
    public static async Task<IEnumerable<string>> CountsOfAsync(World world) =>
        (await world.DumpAsync()).Where(line => line.StartsWith("object ", StringComparison.Ordinal)).Select(line => line.Split(' '))
            .Select(parts => $"{parts[1]} {parts[2]} {parts.First(part => part.StartsWith("count=", StringComparison.Ordinal))}")
            .Where(line => !line.EndsWith("count=0", StringComparison.Ordinal)).Distinct().Order(StringComparer.Ordinal);

    public bool Needs(RecordKind kind, Id32 id) => _parents.ContainsKey((kind, id));

    private void Reach(RecordKind kind, Id32 id, string parent)
    {
        if (!_parents.TryGetValue((kind, id), out var parents))
        {
            _parents.Add((kind, id), parents = []);
        }
        else if (parents.Contains(parent) || kind == RecordKind.Data)
        {
            parents.Add(parent);
            return;
        }
        var isNew = parents.Count == 0;
        parents.Add(parent);
        if (!isNew || kind == RecordKind.Data)
        {
            return;
        }
        Assert.True(_records.TryGetValue((kind, id), out var node), $"The node {id} is missing.");
        if (MapNodeHead.Parse(node).Kind == MapNodeKind.Leaf)
        {
            var leaf = MapLeaf.Parse(node);
            for (var i = 0; i < leaf.Count; i++)
            {
                if (!leaf.IdAt(i).IsZero)
                {
                    Assert.True(_records.ContainsKey((RecordKind.Data, leaf.IdAt(i))), $"The chunk {leaf.IdAt(i)} is missing.");
                    Reach(RecordKind.Data, leaf.IdAt(i), id.ToString());
                }
            }
            return;
        }
        var inner = MapInner.Parse(node);
        for (var i = 0; i < inner.Count; i++)
        {
            if (!inner[i].IsZero)
            {
                Reach(RecordKind.Map, inner[i], id.ToString());
            }
        }
    }
}
