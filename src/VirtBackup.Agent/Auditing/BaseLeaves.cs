using VirtBackup.Agent.Records;
using VirtBackup.Core;
using VirtBackup.Format.Maps;

namespace VirtBackup.Agent.Auditing;

/// <summary>Reads leaves of the base's map anywhere, down from its proven root. One caller at a time.</summary>
internal sealed class BaseLeaves(NodeSource nodes, MapGeometry geometry, Id32 root)
{
    private const int InnerMax = 1024;

    private readonly Dictionary<(int Level, long Index), MapInner> _inner = [];

    /// <summary>The leaves at these numbers; null where all is zero.</summary>
    /// <param name="leaves">At most 1024, each once.</param>
    public async Task<IReadOnlyList<MapLeaf?>> ReadAsync(IReadOnlyList<long> leaves, CancellationToken cancellationToken)
    {
        Check.That(leaves.Count <= InnerMax);
        if (_inner.Count > InnerMax)
        {
            _inner.Clear();
        }
        var ids = leaves.ToDictionary(static leaf => leaf, _ => root);
        for (var level = geometry.Height; level > 0; level--)
        {
            var (height, shift) = (level, 6 * (level - 1));
            await LoadAsync(height, ids, cancellationToken);
            foreach (var leaf in leaves.Where(leaf => !ids[leaf].IsZero))
            {
                ids[leaf] = _inner[(height, leaf >> (shift + 6))][(int)((leaf >> shift) % MapShape.Radix)];
            }
        }
        var stored = leaves.Where(leaf => !ids[leaf].IsZero).ToArray();
        var read = stored.Length == 0 ? [] : await nodes.ReadAsync([.. stored.Select(leaf => ids[leaf])], cancellationToken);
        var found = stored.Index().ToDictionary(static leaf => leaf.Item, leaf => MapLeaf.Parse(read[leaf.Index], geometry.PlaceOf(0, leaf.Item)));
        return [.. leaves.Select(leaf => found.TryGetValue(leaf, out var parsed) ? parsed : (MapLeaf?)null)];
    }

    private async Task LoadAsync(int level, Dictionary<long, Id32> ids, CancellationToken cancellationToken)
    {
        var missing = ids.Where(static id => !id.Value.IsZero).Select(id => (Index: id.Key >> (6 * level), Id: id.Value))
            .Where(node => !_inner.ContainsKey((level, node.Index))).DistinctBy(static node => node.Index).ToArray();
        if (missing.Length == 0)
        {
            return;
        }
        var read = await nodes.ReadAsync([.. missing.Select(static node => node.Id)], cancellationToken);
        for (var i = 0; i < missing.Length; i++)
        {
            _inner[(level, missing[i].Index)] = MapInner.Parse(read[i], geometry.PlaceOf(level, missing[i].Index));
        }
    }
}
